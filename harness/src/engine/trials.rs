//! What the controller tries with a method's connection itself: who else gets in by it, what it changes, and what it
//! leaves.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::Crew;
use super::questions::{Asking, Question};
use super::seat::{Prepared, Seat, Way, agent_on, laptop};
use crate::access::Access;
use crate::agent::{Agent, AgentError};
use crate::causes::in_one_line;
use crate::clock::Stopwatch;
use crate::method::{Method, MethodError, Vantage, pods_of};
use crate::probe::{self, Attempt, Miss, NO_LAPTOP, Trial};
use crate::run::ProbeResult;
use crate::snapshot::{ELSEWHERE_SECTION, Snapshot};

/// The laptop that no method connects.
const NOBODYS: &str = "none";

/// Longest time for a right to be given or taken, and for a laptop to be as before after its connection was killed;
/// and how often it is looked at.
const SOON: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// How many changes stand in the evidence.
const SHOWN: usize = 6;

/// What another host is told of a method's laptop.
pub(super) struct Guest<'a> {
    method: &'a dyn Method,
    /// What listens on the laptop, as seen from outside.
    listeners: Vec<Access>,
}

/// What a trial comes to; an error says nothing of the method.
type Tried = Result<Attempt, MethodError>;

impl<'a> Asking<'a> {
    /// What each method's laptop shows to others on the LAN.
    pub(super) async fn guests(&self, crews: &mut [Crew]) -> Vec<Guest<'a>> {
        let mut guests = Vec::new();
        for crew in crews {
            let Some(method) = self.method(crew) else {
                continue;
            };
            let mut listeners = Vec::new();
            let seat = &mut crew.seats[0];
            if let Some(connector) = &mut seat.connector
                && let Ok(network) = connector.network().await
                && let Some(address) = network.address
            {
                let seen = |access: &Access| access.from_outside(address);
                listeners.extend(seat.accesses.iter().filter_map(seen));
            }
            guests.push(Guest { method, listeners });
        }
        guests
    }

    /// Tries something on the laptop that no method connects.
    pub(super) async fn try_elsewhere(
        &self,
        guest: &Guest<'_>,
        question: Question<'_>,
    ) -> ProbeResult {
        let (_, probe) = question;
        let stopwatch = Stopwatch::start();
        let tried = async {
            let mut host = self.nobodys_laptop().await?;
            let tried = match probe.manner {
                probe::Manner::Tried(Trial::Neighbour) => {
                    self.neighbour(&mut host, guest, question).await
                }
                _ => self.overlap(&mut host, guest.method, question).await,
            };
            host.end().await;
            tried
        };
        self.told(match tried.await {
            Ok(attempt) => probe::tried(probe, guest.method, attempt, stopwatch.elapsed()),
            Err(error) => probe::not_run(probe, guest.method, &in_one_line(&error)),
        })
    }

    async fn nobodys_laptop(&self) -> Result<Prepared, MethodError> {
        let refused = |reason: &str| MethodError::Refused {
            reason: reason.to_owned(),
            hint: "the lab and kind clusters have one".to_owned(),
        };
        if self.engine.laptops.is_some() {
            return Err(refused("there is no laptop beside those of the methods"));
        }
        let laptop = laptop(self.engine.cluster, NOBODYS).await?;
        match laptop.unchangeable() {
            Some(_) => Err(refused(
                "the laptops are this very machine: there is no second host",
            )),
            None => Prepared::on(laptop.as_ref()).await,
        }
    }

    /// A host that was not invited: first by itself, then by what listens on the laptop, then as a client of the
    /// method with all but its secrets.
    async fn neighbour(
        &self,
        host: &mut Prepared,
        guest: &Guest<'_>,
        question: Question<'_>,
    ) -> Tried {
        const EXPECTED: &str =
            "another host on the LAN, without the method's credential, gets nothing from inside";
        let mut seen = Vec::new();
        let bare = [("by itself", Access::Unmodified)];
        let listeners = guest.listeners.iter();
        let listeners = listeners.map(|it| ("by the laptop's listeners", it.clone()));
        for (how, access) in bare.into_iter().chain(listeners) {
            let attempt = self.attempt(&mut host.client, question, &access).await?;
            seen.push(format!("{how}: {}", attempt.text()));
            if attempt.seen.is_err() {
                return Ok(Attempt::fail(EXPECTED, seen.join("; ")));
            }
        }
        if guest.method.vantage() == Vantage::Pod {
            return Ok(Attempt::pass(EXPECTED, seen.join("; ")));
        }
        let invitation = guest.method.invite(self.stage, self.targets, 0).await?;
        let invitation = guest.method.without_credential(invitation)?;
        match host.connector.connect(guest.method.id(), invitation).await {
            Err(AgentError::Failed { reason, .. }) => {
                seen.push(format!("as a client of the method: {}", in_line(&reason)));
            }
            Err(other) => return Err(broken(other)),
            Ok((accesses, _)) => {
                for access in accesses {
                    let attempt = self.attempt(&mut host.client, question, &access).await?;
                    seen.push(format!("as a client of the method: {}", attempt.text()));
                    if attempt.seen.is_err() {
                        return Ok(Attempt::fail(EXPECTED, seen.join("; ")));
                    }
                }
            }
        }
        Ok(Attempt::pass(EXPECTED, seen.join("; ")))
    }

    /// A host in whose office a part of the cluster's Service network is in use: it is told so before anything is
    /// changed, or it is connected, and both that part of the office and the cluster are reached.
    async fn overlap(
        &self,
        host: &mut Prepared,
        method: &dyn Method,
        question: Question<'_>,
    ) -> Tried {
        const EXPECTED: &str = "an office whose network overlaps the cluster's is told before anything is changed, or keeps it and works";
        if method.vantage() == Vantage::Pod {
            return Ok(Attempt::not_tried(EXPECTED, NO_LAPTOP));
        }
        let IpNet::V4(services) = self.stage.facts.service_cidr else {
            return Ok(Attempt::not_tried(
                EXPECTED,
                "the cluster's Service network is IPv6",
            ));
        };
        // The upper half of it: no office would choose the network as a whole.
        let half = services.subnets((services.prefix_len() + 1).min(32));
        let taken = half
            .ok()
            .and_then(|mut halves| halves.nth(1))
            .unwrap_or(services);
        host.connector.overlap(Some(taken)).await.map_err(broken)?;
        let outcome = self.overlapped(host, method, question, taken).await;
        host.connector.overlap(None).await.map_err(broken)?;
        let seen = outcome?;
        Ok(match seen {
            Ok(text) => Attempt::pass(EXPECTED, format!("the office has {taken}: {text}")),
            Err(text) => Attempt::fail(EXPECTED, format!("the office has {taken}: {text}")),
        })
    }

    async fn overlapped(
        &self,
        host: &mut Prepared,
        method: &dyn Method,
        question: Question<'_>,
        taken: Ipv4Net,
    ) -> Result<Result<String, String>, MethodError> {
        let before = host.client.snapshot().await.map_err(broken)?;
        match host.check(self.stage, method).await {
            Err(MethodError::Refused { reason, .. }) => {
                let after = host.client.snapshot().await.map_err(broken)?;
                return Ok(match changed(&before, &after) {
                    None => Ok(format!("refused: {reason}; nothing was changed")),
                    Some(changes) => Err(format!("refused: {reason}; but {changes}")),
                });
            }
            other => other?,
        }
        let way = self.way(method);
        let (accesses, _) = way.connect(&mut host.connector, 0).await?;
        let connected = host.client.snapshot().await.map_err(broken)?;
        if let Some(changes) = changed(&before, &connected) {
            return Ok(Err(format!("it was connected, and {changes}")));
        }
        for access in &accesses {
            if let Ok(text) = self.attempt(&mut host.client, question, access).await?.seen {
                return Ok(Ok(format!(
                    "it was connected, {taken} is still the office's, and the cluster answers: {text}"
                )));
            }
        }
        Ok(Err(
            "it was connected, and the cluster does not answer".to_owned()
        ))
    }

    /// One attempt, by the client of a laptop.
    async fn attempt(
        &self,
        client: &mut Agent,
        (scenario, probe): Question<'_>,
        access: &Access,
    ) -> Tried {
        let attempt = client.attempt(scenario.id(), probe, access, self.workload);
        attempt.await.map_err(broken)
    }

    /// Tries something on a method's own laptop.
    pub(super) async fn try_on(
        &self,
        crew: &mut Crew,
        way: &Way<'_>,
        trial: Trial,
        question: Question<'_>,
    ) -> Tried {
        if self.engine.laptops.is_some() {
            return Ok(Attempt::not_tried(
                question.1.asks,
                "the laptops are pods, which are not taken apart",
            ));
        }
        match trial {
            Trial::Unrelated => self.unrelated(crew, question).await,
            Trial::Teardown => self.teardown(crew, way, question).await,
            _ => self.privilege(crew, way, question).await,
        }
    }

    /// The laptop's other traffic now, against that of before it was connected.
    async fn unrelated(&self, crew: &mut Crew, question: Question<'_>) -> Tried {
        const EXPECTED: &str = "traffic elsewhere and the office's names go where they went before";
        let seat = &mut crew.seats[0];
        let before = match &seat.before {
            Ok(before) => before.clone(),
            Err(reason) => return Ok(Attempt::not_tried(EXPECTED, reason)),
        };
        let now = seat.client.snapshot().await.map_err(broken)?;
        let elsewhere = |snapshot: &Snapshot| snapshot.only(ELSEWHERE_SECTION);
        if let Some(changes) = changed(&elsewhere(&before), &elsewhere(&now)) {
            return Ok(Attempt::fail(EXPECTED, changes));
        }
        let unmodified = Access::Unmodified;
        let office = self
            .attempt(&mut seat.client, question, &unmodified)
            .await?;
        let on_laptop = changed(&before, &now).unwrap_or_else(|| "nothing changed".to_owned());
        let text = format!("{}; of the laptop: {on_laptop}", office.text());
        Ok(match office.seen {
            Ok(_) => Attempt::pass(EXPECTED, text),
            Err(Miss::Wrong(_)) => Attempt::fail(EXPECTED, text),
            Err(Miss::NotTried(reason)) => Attempt::not_tried(EXPECTED, reason),
        })
    }

    /// The laptop and the namespace after the connection's end, in order and by SIGKILL; it is connected again
    /// afterwards.
    async fn teardown(&self, crew: &mut Crew, way: &Way<'_>, question: Question<'_>) -> Tried {
        const EXPECTED: &str = "after its end, and after SIGKILL, laptop and cluster are as before";
        let seat = &mut crew.seats[0];
        let before = match &seat.before {
            Ok(before) => before.clone(),
            Err(reason) => return Ok(Attempt::not_tried(EXPECTED, reason)),
        };
        seat.disconnect().await?;
        let ended = self.is_as_before(seat, &before).await?;
        seat.connect(way).await?;
        let again = seat.answers(self, question).await?;

        let host = laptop(self.engine.cluster, &way.method.id().as_label()).await?;
        let next = agent_on(host.as_ref(), "connection")?;
        if let Some(connector) = seat.connector.replace(next) {
            connector.die().await.map_err(broken)?;
        }
        let stopwatch = Stopwatch::start();
        let mut killed = self.is_as_before(seat, &before).await?;
        while killed.is_err() && stopwatch.elapsed() < SOON {
            tokio::time::sleep(PAUSE).await;
            killed = self.is_as_before(seat, &before).await?;
        }
        let took = stopwatch.elapsed();
        seat.connect(way).await?;
        let at_last = seat.answers(self, question).await?;

        let all = before.extent();
        Ok(match (ended, killed, again.and(at_last)) {
            (Ok(()), Ok(()), Ok(_)) => Attempt::pass(
                EXPECTED,
                format!(
                    "as before at once after its end, and within {:.1} s after SIGKILL ({all}); connected again each time",
                    took.as_secs_f64()
                ),
            ),
            (Err(changes), ..) => Attempt::fail(EXPECTED, format!("after its end {changes}")),
            (_, Err(changes), _) => {
                let text = format!("{} s after SIGKILL {changes}", SOON.as_secs());
                Attempt::fail(EXPECTED, text)
            }
            (.., Err(text)) => Attempt::fail(EXPECTED, format!("connected again, {text}")),
        })
    }

    /// Whether laptop and namespace are as they were before it was connected, or what is not.
    async fn is_as_before(
        &self,
        seat: &mut Seat,
        before: &Snapshot,
    ) -> Result<Result<(), String>, MethodError> {
        let now = seat.client.snapshot().await.map_err(broken)?;
        if let Some(changes) = changed(before, &now) {
            return Ok(Err(changes));
        }
        let inventory = self.stage.inventory().await?;
        let differs: Vec<_> = self.inventory.symmetric_difference(&inventory).collect();
        Ok(match differs.as_slice() {
            [] => Ok(()),
            _ => Err(format!("the namespace differs in {differs:?}")),
        })
    }

    /// What works with the rights that the manifests grant, and without each of them; where none is granted, that
    /// there is no token either.
    async fn privilege(&self, crew: &mut Crew, way: &Way<'_>, question: Question<'_>) -> Tried {
        const EXPECTED: &str = "it works with exactly the rights that its manifests grant, and not without any of them";
        let seat = &mut crew.seats[0];
        let with_all = match seat.answers(self, question).await? {
            Ok(text) => text,
            Err(text) => return Ok(Attempt::fail(EXPECTED, text)),
        };
        let grants = self.stage.grants(way.method.manifests())?;
        if grants.is_empty() {
            return self.no_right(way.method, &with_all, EXPECTED).await;
        }
        let mut seen = vec![format!("with all: {with_all}")];
        for grant in &grants {
            for (index, rule) in grant.rules.iter().enumerate() {
                self.stage.grant(grant, Some(index)).await?;
                let without = self.settled(seat, way, question, |now| *now != Ok(with_all.clone()));
                let without = without.await;
                self.stage.grant(grant, None).await?;
                match without? {
                    Ok(text) if text == with_all => {
                        let text = format!("without {rule} it works as well");
                        return Ok(Attempt::fail(EXPECTED, text));
                    }
                    Ok(text) => seen.push(format!("without {rule}: {text} only")),
                    Err(text) => seen.push(format!("without {rule}: {text}")),
                }
            }
        }
        let restored = self.settled(seat, way, question, |now| *now == Ok(with_all.clone()));
        match restored.await? {
            Ok(text) if text == with_all => Ok(Attempt::pass(EXPECTED, seen.join("; "))),
            other => {
                let text = other.unwrap_or_else(|text| text);
                Ok(Attempt::fail(EXPECTED, format!("with all again: {text}")))
            }
        }
    }

    /// Connects anew until what answers is as wanted, for a while: an API server learns of a change a moment later.
    async fn settled(
        &self,
        seat: &mut Seat,
        way: &Way<'_>,
        question: Question<'_>,
        wanted: impl Fn(&Result<String, String>) -> bool,
    ) -> Result<Result<String, String>, MethodError> {
        let stopwatch = Stopwatch::start();
        loop {
            seat.disconnect().await?;
            let now = match seat.connect(way).await {
                Ok(()) => seat.answers(self, question).await?,
                Err(error) => Err(in_one_line(&error)),
            };
            if wanted(&now) || stopwatch.elapsed() > SOON {
                return Ok(now);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A method to which no right is granted: its pods hold no token that could be used for more.
    async fn no_right(&self, method: &dyn Method, works: &str, expected: &str) -> Tried {
        let mut pods = Vec::new();
        let parts = method.parts().iter().filter_map(|part| part.pods());
        let own = (method.vantage() == Vantage::Pod).then(|| pods_of(&method.id().as_label()));
        for labels in parts.chain(own) {
            pods.extend(self.stage.pods_with(&labels).await?);
        }
        let holders: Vec<&str> = pods
            .iter()
            .filter(|(_, has_token)| *has_token)
            .map(|(name, _)| name.as_str())
            .collect();
        Ok(if holders.is_empty() {
            let text = format!(
                "its manifests grant no right; {} pods of it, none with a token of the API server's; with none: {works}",
                pods.len()
            );
            Attempt::pass(expected, text)
        } else {
            Attempt::fail(expected, format!("a token is in {}", holders.join(", ")))
        })
    }
}

impl Seat {
    /// Connects it anew, as the first laptop.
    async fn connect(&mut self, way: &Way<'_>) -> Result<(), MethodError> {
        if let Some(connector) = &mut self.connector {
            (self.accesses, _) = way.connect(connector, 0).await?;
        }
        Ok(())
    }

    async fn disconnect(&mut self) -> Result<(), MethodError> {
        match &mut self.connector {
            Some(connector) => connector.disconnect().await.map_err(broken),
            None => Ok(()),
        }
    }

    /// What answers by the access that asks least.
    async fn answers(
        &mut self,
        asking: &Asking<'_>,
        question: Question<'_>,
    ) -> Result<Result<String, String>, MethodError> {
        let access = self.access();
        let attempt = asking.attempt(&mut self.client, question, &access).await?;
        Ok(attempt.seen.map_err(|miss| miss.text().to_owned()))
    }
}

/// What was changed, in few words; `None` where nothing was.
fn changed(before: &Snapshot, after: &Snapshot) -> Option<String> {
    let changes = before.changes(after);
    let (shown, rest) = changes.split_at(changes.len().min(SHOWN));
    let more = (!rest.is_empty()).then(|| format!("; and {} more", rest.len()));
    (!shown.is_empty()).then(|| shown.join("; ") + &more.unwrap_or_default())
}

fn broken(error: AgentError) -> MethodError {
    MethodError::while_doing("asking the laptop")(error)
}

/// A text of several lines in one.
fn in_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
