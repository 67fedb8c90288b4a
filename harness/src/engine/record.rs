//! The result as it grows, and its file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Crew, Engine, EngineError, machine, summary};
use crate::clock;
use crate::ids::MethodId;
use crate::method::{Interruptions, Method};
use crate::probe;
use crate::run::{
    Claim, Component, INTERRUPTED, MethodInfo, ProbeResult, Run, RunInfo, SCHEMA_VERSION,
    ScenarioInfo, Status, Warning,
};
use crate::scenario::Scenario;
use crate::validity::{self, MachineNoise};

/// A result and where it is saved.
pub(super) struct Record {
    pub(super) run: Run,
    file: PathBuf,
    claims: fn(&Run) -> Vec<Claim>,
    half_width: f64,
    noise: MachineNoise,
    /// How often each method was interrupted, and during what.
    interruptions: BTreeMap<MethodId, BTreeMap<String, u64>>,
}

impl Record {
    /// Begins a result and saves it at once: a file that cannot be written is found before anything is done.
    pub(super) fn begin(id: &str, engine: &Engine<'_>, file: &Path) -> Result<Self, EngineError> {
        let Engine {
            plan, repertoire, ..
        } = engine;
        let environment = machine::environment(engine.cluster, engine.laptops.as_ref());
        let mut warnings = Vec::new();
        if environment.build_profile != "optimised" {
            warnings.push(Warning {
                kind: "unoptimised-build".to_owned(),
                text: "this program was built without optimisation, so its figures mean nothing"
                    .to_owned(),
                remedy: "build with the project's own profiles".to_owned(),
            });
        }
        let methods = plan
            .methods
            .iter()
            .filter_map(|id| repertoire.method(id))
            .map(method_info);
        let scenarios = plan
            .scenarios
            .iter()
            .filter_map(|id| repertoire.scenario(id));
        let run = Run {
            schema_version: SCHEMA_VERSION,
            run: RunInfo {
                id: id.to_owned(),
                status: Status::Partial,
                command: plan.command.clone(),
                profile: plan.profile.name.clone(),
                seed: plan.seed,
                started_at: clock::wall(),
                finished_at: None,
            },
            environment,
            methods: methods.collect(),
            scenarios: scenarios
                .map(|s| ScenarioInfo {
                    id: s.id().to_owned(),
                    title: s.title().to_owned(),
                })
                .collect(),
            probes: Vec::new(),
            measurements: Vec::new(),
            summary: Vec::new(),
            claims: Vec::new(),
            warnings,
        };
        let record = Self {
            run,
            file: file.to_owned(),
            claims: repertoire.claims,
            half_width: plan.profile.half_width,
            noise: engine.machine,
            interruptions: BTreeMap::new(),
        };
        record.save()?;
        Ok(record)
    }

    /// Takes in that a method is connected.
    pub(super) fn connected(&mut self, crew: &Crew) {
        if let Some(info) = self
            .run
            .methods
            .iter_mut()
            .find(|info| info.id == crew.method)
        {
            info.setup_ms = Some(crew.setup.as_secs_f64() * 1e3);
        }
        self.includes(&crew.components);
    }

    /// Takes in what a method or a workload consists of. Two of them may have one program in common.
    pub(super) fn includes(&mut self, found: &[Component]) {
        let components = &mut self.run.environment.components;
        for component in found {
            if !components.contains(component) {
                components.push(component.clone());
            }
        }
    }

    /// Takes in that what carries a method has ended by itself `during` something and was started again. All
    /// of a method's interruptions stand in one warning.
    pub(super) fn interrupted(&mut self, method: &MethodId, during: &str, found: Interruptions) {
        let of_method = self.interruptions.entry(method.clone()).or_default();
        *of_method.entry(during.to_owned()).or_default() += found.count;
        let beginning = format!("`{method}` ended by itself ");
        let times: u64 = of_method.values().sum();
        let during: Vec<String> = of_method
            .iter()
            .map(|(during, count)| format!("{during}: {count}"))
            .collect();
        let warning = Warning {
            kind: INTERRUPTED.to_owned(),
            text: format!(
                "{beginning}{times}× and was started again ({}); the last: {}",
                during.join(", "),
                found.said
            ),
            remedy:
                "a user would have started it again by hand each time; what clients saw are the \
                     errors beside the figures"
                    .to_owned(),
        };
        let warnings = &mut self.run.warnings;
        let earlier = warnings
            .iter_mut()
            .find(|earlier| earlier.kind == INTERRUPTED && earlier.text.starts_with(&beginning));
        match earlier {
            Some(earlier) => *earlier = warning,
            None => warnings.push(warning),
        }
    }

    /// Takes in that probes of these scenarios cannot be asked through a method: none counts as a pass.
    pub(super) fn absent(
        &mut self,
        engine: &Engine<'_>,
        method: &dyn Method,
        scenarios: &[&dyn Scenario],
        reason: &str,
    ) {
        let id = method.id();
        for asked in scenarios.iter().flat_map(|it| engine.probes_of(*it)) {
            let told = |it: &ProbeResult| it.id == asked.id && it.method == id;
            if self.run.probes.iter().any(told) {
                continue;
            }
            let result = engine.expecting(probe::not_run(asked, method, reason));
            self.run.probes.push(result);
        }
    }

    /// Saves what is known: the file is whole at every moment, the new one or the one before.
    pub(super) fn save(&self) -> Result<(), EngineError> {
        let failed = |source| EngineError::Save {
            path: self.file.clone(),
            source,
        };
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&self.run)
            .map_err(std::io::Error::other)
            .map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        // Readable like any file, not only by its owner as temporary files are.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode).map_err(failed)?;
        file.persist(&self.file)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Ends the result.
    pub(super) fn finish(mut self, status: Status) -> Result<Run, EngineError> {
        self.run.run.status = status;
        self.run.run.finished_at = Some(clock::wall());
        self.run.summary = summary::summarise(&self.run.measurements);
        let known = validity::of_run(&self.run, self.half_width);
        let machine = self.noise.warnings(self.run.environment.cores);
        self.run.warnings.extend(machine.into_iter().chain(known));
        self.run.claims = (self.claims)(&self.run);
        self.save()?;
        Ok(self.run)
    }
}

fn method_info(method: &dyn Method) -> MethodInfo {
    MethodInfo {
        id: method.id(),
        title: method.title().to_owned(),
        needs: method.needs().iter().map(ToString::to_string).collect(),
        setup_ms: None,
        exposes: method.exposes().iter().map(ToString::to_string).collect(),
    }
}
