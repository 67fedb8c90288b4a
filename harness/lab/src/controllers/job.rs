//! Jobs: pods that run to their end, as often as asked for.

mod plan;

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobStatus},
        core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Context, Controller, Item, ownership, pods};
use crate::apiserver::{
    kinds::Kind,
    registry::{JOBS, PODS, Resource},
    rest::DeleteOptions,
    status::Status,
    store::Change,
    words,
};
use plan::{Member, Outcome, Wanted};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

pub(super) struct Jobs;

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&JOBS, &PODS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        ownership::concerned::<Job>(context, change)
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let Some(job) = context
            .client
            .find::<Job>(&item.key.namespace, &item.key.name)
        else {
            return Ok(None);
        };
        if let Some(ended) = ended_at(&job) {
            return expire(context, &job, ended);
        }
        if job.is_terminating() {
            return Ok(None);
        }
        let claimed = ownership::claim_pods(context, &*job)?;
        let view = View {
            context,
            job: &job,
            pods: claimed,
        };
        view.advance()
    }
}

/// When the job completed or failed.
fn ended_at(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let end = conditions.find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })?;
    end.last_transition_time.as_ref().map(|time| time.0)
}

/// Deletes an ended job once its time is over, if it has one.
fn expire(context: &Context<'_>, job: &Job, ended: Timestamp) -> Result<Option<Timestamp>, Status> {
    let Some(seconds) = job
        .spec
        .as_ref()
        .and_then(|spec| spec.ttl_seconds_after_finished)
    else {
        return Ok(None);
    };
    let end = super::after(ended, i64::from(seconds));
    if end > context.now {
        return Ok(Some(end));
    }
    context
        .client
        .delete_with(job, DeleteOptions::default())
        .map(|()| None)
}

/// One look at a job that has not ended.
struct View<'a> {
    context: &'a Context<'a>,
    job: &'a Job,
    pods: Vec<Arc<Pod>>,
}

impl View<'_> {
    fn advance(&self) -> Result<Option<Timestamp>, Status> {
        let spec = self.job.spec.clone().unwrap_or_default();
        let before = self.job.status.clone().unwrap_or_default();
        let members: Vec<_> = self.pods.iter().map(|pod| self.member(pod)).collect();
        let wanted = self.wanted(&before);
        let plan = plan::next(&wanted, &members);

        let mut status = JobStatus {
            active: count(members.iter().filter(|member| member.is_active()).count()),
            ready: Some(int(self
                .pods
                .iter()
                .filter(|pod| pods::is_ready(pod))
                .count())),
            succeeded: count(plan.succeeded),
            failed: count(plan.failed),
            terminating: Some(int(members.iter().filter(|member| member.ends).count())),
            completed_indexes: plan.completed_indexes.clone(),
            start_time: before.start_time.clone(),
            conditions: before.conditions.clone(),
            ..JobStatus::default()
        };
        let suspended = spec.suspend == Some(true);
        if suspended {
            self.set_suspended(&mut status);
        } else {
            status.start_time.get_or_insert(Time(self.context.now));
        }
        match plan.outcome {
            Outcome::Complete => self.end(&mut status, "Complete", "CompletionsReached", REACHED),
            Outcome::TooManyFailures => {
                self.end(&mut status, "Failed", "BackoffLimitExceeded", TOO_MANY);
            }
            Outcome::TooLate => self.end(&mut status, "Failed", "DeadlineExceeded", TOO_LATE),
            Outcome::Running => {}
        }
        for pod in plan.delete.iter().filter_map(|index| self.pods.get(*index)) {
            pods::delete(self.context, self.job, pod)?;
        }
        for index in &plan.create {
            self.create(*index)?;
        }
        if status != before {
            let updated = Job {
                status: Some(status),
                ..self.job.clone()
            };
            self.context.client.update_status(&updated)?;
        }
        Ok(plan.again)
    }

    fn wanted(&self, before: &JobStatus) -> Wanted {
        let spec = self.job.spec.clone().unwrap_or_default();
        let size = |count: Option<i32>| count.and_then(|count| usize::try_from(count).ok());
        let started = before.start_time.as_ref().map(|time| time.0);
        let deadline = spec.active_deadline_seconds.zip(started);
        Wanted {
            completions: size(spec.completions),
            parallelism: size(spec.parallelism).unwrap_or(1),
            backoff_limit: size(spec.backoff_limit).unwrap_or(6),
            indexed: spec.completion_mode.as_deref() == Some("Indexed"),
            suspended: spec.suspend == Some(true),
            deadline: deadline.map(|(seconds, start)| super::after(start, seconds)),
            counted: (
                size(before.succeeded).unwrap_or(0),
                size(before.failed).unwrap_or(0),
            ),
            now: self.context.now,
        }
    }

    fn member(&self, pod: &Pod) -> Member {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let restarts: i32 = statuses
            .into_iter()
            .flatten()
            .map(|it| it.restart_count)
            .sum();
        let annotations = pod.metadata.annotations.as_ref();
        let index = annotations
            .and_then(|all| all.get(INDEX))
            .and_then(|text| text.parse().ok());
        Member {
            succeeded: pods::phase(pod) == "Succeeded",
            failed: pods::phase(pod) == "Failed",
            ends: pod.is_terminating(),
            index,
            restarts: usize::try_from(restarts).unwrap_or(0),
            ended: ended(pod),
        }
    }

    fn create(&self, index: Option<usize>) -> Result<(), Status> {
        let spec = self.job.spec.clone().unwrap_or_default();
        let owner = ownership::reference(self.job);
        let mut pod = pods::from_template(&spec.template, self.job.namespace(), owner);
        match index {
            None => pod.metadata.generate_name = Some(format!("{}-", self.job.name())),
            Some(index) => self.number(&mut pod, index),
        }
        pods::create(self.context, self.job, &pod)
    }

    /// Tells a pod of an indexed job which of them it is.
    fn number(&self, pod: &mut Pod, index: usize) {
        let hostname = format!("{}-{index}", self.job.name());
        pod.metadata.name = Some(format!("{hostname}-{}", words::random(5)));
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(INDEX.to_owned(), index.to_string());
        pod.metadata
            .labels
            .get_or_insert_default()
            .insert(INDEX.to_owned(), index.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname.get_or_insert(hostname);
        let from_label = EnvVar {
            name: "JOB_COMPLETION_INDEX".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: format!("metadata.labels['{INDEX}']"),
                }),
                ..EnvVarSource::default()
            }),
            value: None,
        };
        let containers = spec
            .init_containers
            .iter_mut()
            .flatten()
            .chain(&mut spec.containers);
        for container in containers {
            container
                .env
                .get_or_insert_default()
                .push(from_label.clone());
        }
    }

    fn set_suspended(&self, status: &mut JobStatus) {
        let conditions = status.conditions.get_or_insert_default();
        if conditions
            .iter()
            .any(|it| it.type_ == "Suspended" && it.status == "True")
        {
            return;
        }
        conditions.retain(|condition| condition.type_ != "Suspended");
        conditions.push(self.condition("Suspended", "JobSuspended", "Job suspended"));
        self.context.tell(self.job, "Suspended", "Job suspended");
    }

    fn end(&self, status: &mut JobStatus, ty: &str, reason: &str, message: &str) {
        let conditions = status.conditions.get_or_insert_default();
        if ty == "Complete" {
            conditions.push(self.condition("SuccessCriteriaMet", reason, message));
            status.completion_time = Some(Time(self.context.now));
            self.context.tell(self.job, "Completed", "Job completed");
        } else {
            conditions.push(self.condition("FailureTarget", reason, message));
            self.context.warn(self.job, reason, message);
        }
        conditions.push(self.condition(ty, reason, message));
    }

    fn condition(&self, ty: &str, reason: &str, message: &str) -> JobCondition {
        JobCondition {
            type_: ty.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.context.now)),
            last_transition_time: Some(Time(self.context.now)),
        }
    }
}

const REACHED: &str = "Reached expected number of succeeded pods";
const TOO_MANY: &str = "Job has reached the specified backoff limit";
const TOO_LATE: &str = "Job was active longer than specified deadline";

/// When the last container of a pod ended.
fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let ends = statuses.into_iter().flatten().filter_map(|container| {
        container
            .state
            .as_ref()?
            .terminated
            .as_ref()?
            .finished_at
            .as_ref()
            .map(|time| time.0)
    });
    ends.max()
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Zeros are left out of a status.
fn count(count: usize) -> Option<i32> {
    Some(int(count)).filter(|count| *count > 0)
}

/// `0,2-4`: the numbers of the pods that completed.
fn ranges(indexes: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *index => *end = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let shown = ranges.into_iter().map(|(start, end)| match end - start {
        0 => start.to_string(),
        1 => format!("{start},{end}"),
        _ => format!("{start}-{end}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// How long to wait before a failed pod is followed by another.
fn backoff(failures: usize) -> SignedDuration {
    const FIRST: i64 = 10;
    const LONGEST: i64 = 600;
    let doublings = u32::try_from(failures.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(10);
    SignedDuration::from_secs((FIRST << doublings).min(LONGEST))
}
