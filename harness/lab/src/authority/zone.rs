//! A zone: names, what is recorded under them, and what is said of names that are not there.

use std::collections::{HashMap, HashSet};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rand::seq::SliceRandom as _;

use super::Answer;

/// Aliases that are followed before they count as a loop, as many as CoreDNS follows.
const MAX_ALIASES: usize = 8;

/// All that is known below one name. Case does not count in names (RFC 4343).
#[derive(Debug)]
pub(crate) struct Zone {
    origin: Name,
    soa: SOA,
    names: HashMap<Name, Vec<Recorded>>,
    computed: Option<Computed>,
}

/// A record without its owner.
#[derive(Debug)]
struct Recorded {
    ttl: u32,
    data: RData,
}

/// What there is under a name that is not recorded but follows from it.
pub(crate) type Computed = fn(&Zone, &Name) -> Option<RData>;

/// What a zone has for a name and a type.
enum Found {
    Records(Vec<Record>),
    Alias {
        target: Name,
        ttl: u32,
    },
    /// The name exists, without such a record.
    NoData,
    NoName,
}

impl Zone {
    /// A zone with nothing in it.
    pub(crate) fn new(origin: Name, soa: SOA) -> Self {
        let mut zone = Self {
            origin: origin.clone(),
            soa: soa.clone(),
            names: HashMap::new(),
            computed: None,
        };
        zone.insert(origin, soa.minimum, RData::SOA(soa));
        zone
    }

    /// Names that are not recorded may be computed.
    pub(crate) fn with_computed(mut self, computed: Computed) -> Self {
        self.computed = Some(computed);
        self
    }

    /// The name at its top.
    pub(crate) fn origin(&self) -> &Name {
        &self.origin
    }

    /// Whether `name` is for this zone to answer.
    pub(crate) fn covers(&self, name: &Name) -> bool {
        self.origin.zone_of(name)
    }

    /// Whether `name` is recorded, or stands between a recorded one and the top.
    pub(crate) fn has(&self, name: &Name) -> bool {
        self.names.contains_key(name)
    }

    /// Records something; a second time changes nothing.
    pub(crate) fn insert(&mut self, name: Name, ttl: u32, data: RData) {
        self.extend(name, ttl, [data]);
    }

    /// Records several things under one name, which does not come to exist by none of them.
    pub(crate) fn extend(&mut self, name: Name, ttl: u32, data: impl IntoIterator<Item = RData>) {
        let mut data = data.into_iter().peekable();
        if data.peek().is_none() {
            return;
        }
        let recorded = self.entry(name);
        let mut known: HashSet<RData> = recorded.iter().map(|it| it.data.clone()).collect();
        for data in data {
            if known.insert(data.clone()) {
                recorded.push(Recorded { ttl, data });
            }
        }
    }

    /// Makes a name exist that has no record of its own.
    pub(crate) fn insert_name(&mut self, name: Name) {
        self.entry(name);
    }

    /// What is recorded under a name, which from now on exists, and with it all above it: a name with
    /// something below it is not missing (RFC 8020).
    fn entry(&mut self, name: Name) -> &mut Vec<Recorded> {
        let mut above = name.base_name();
        while self.origin.zone_of(&above) && !self.has(&above) {
            let next = above.base_name();
            self.names.insert(above, Vec::new());
            above = next;
        }
        self.names.entry(name).or_default()
    }

    /// Answers a question, following aliases as far as this zone goes (RFC 1034 §4.3.2). The answer keeps
    /// the spelling of `name`.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let mut answer = Answer::default();
        let mut name = name.clone();
        for _ in 0..MAX_ALIASES {
            match self.find(&name, kind) {
                Found::Records(records) => {
                    answer.additionals = self.addresses_of_targets(&records);
                    answer.answers.extend(records);
                    return answer;
                }
                Found::Alias { target, ttl } => {
                    let alias = RData::CNAME(CNAME(target.clone()));
                    answer.answers.push(Record::from_rdata(name, ttl, alias));
                    if !self.covers(&target) {
                        answer.leads_to = Some(target);
                        return answer;
                    }
                    name = target;
                }
                Found::NoData => {
                    answer.authorities.push(self.soa_record());
                    return answer;
                }
                Found::NoName => {
                    answer.code = ResponseCode::NXDomain;
                    answer.authorities.push(self.soa_record());
                    return answer;
                }
            }
        }
        Answer::failure()
    }

    fn find(&self, name: &Name, kind: RecordType) -> Found {
        let Some(recorded) = self.names.get(name) else {
            return match self.computed.and_then(|compute| compute(self, name)) {
                Some(data) if data.record_type() == kind => {
                    Found::Records(vec![Record::from_rdata(
                        name.clone(),
                        self.soa.minimum,
                        data,
                    )])
                }
                Some(_) => Found::NoData,
                None => Found::NoName,
            };
        };
        let mut records: Vec<Record> = recorded
            .iter()
            .filter(|known| known.data.record_type() == kind)
            .map(|known| Record::from_rdata(name.clone(), known.ttl, known.data.clone()))
            .collect();
        if !records.is_empty() {
            if kind.is_ip_addr() {
                spread(&mut records);
            }
            return Found::Records(records);
        }
        let alias = recorded.iter().find_map(|known| match &known.data {
            RData::CNAME(CNAME(target)) => Some((target, known.ttl)),
            _ => None,
        });
        match alias {
            Some((target, ttl)) => Found::Alias {
                target: target.clone(),
                ttl,
            },
            None => Found::NoData,
        }
    }

    /// What a client will ask next: the addresses of what the records name (RFC 2782, RFC 1035 §3.3).
    fn addresses_of_targets(&self, records: &[Record]) -> Vec<Record> {
        let mut seen = HashSet::new();
        let targets = records.iter().filter_map(target);
        let mut addresses: Vec<Record> = targets
            .filter(|target| seen.insert(*target))
            .flat_map(|target| {
                let recorded = self.names.get(target).into_iter().flatten();
                recorded
                    .filter(|known| known.data.record_type().is_ip_addr())
                    .map(|known| Record::from_rdata(target.clone(), known.ttl, known.data.clone()))
            })
            .collect();
        spread(&mut addresses);
        addresses
    }

    /// What stands beside a negative answer, and how long that may be remembered (RFC 2308 §3).
    fn soa_record(&self) -> Record {
        Record::from_rdata(
            self.origin.clone(),
            self.soa.minimum,
            RData::SOA(self.soa.clone()),
        )
    }
}

/// What a record points to, where it points anywhere.
fn target(record: &Record) -> Option<&Name> {
    match &record.data {
        RData::SRV(srv) => Some(&srv.target),
        RData::MX(mx) => Some(&mx.exchange),
        RData::NS(ns) => Some(&ns.0),
        _ => None,
    }
}

/// Puts addresses in another order each time, as CoreDNS' `loadbalance` does: most clients take the first.
fn spread(addresses: &mut [Record]) {
    if addresses.len() > 1 {
        addresses.shuffle(&mut rand::rng());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn address(last: u8) -> RData {
        std::net::Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn alias(target: &str) -> RData {
        RData::CNAME(CNAME(name(target)))
    }

    fn zone(records: impl IntoIterator<Item = (&'static str, RData)>) -> Zone {
        let soa = SOA::new(
            name("ns.test."),
            name("hostmaster.test."),
            1,
            7200,
            1800,
            86400,
            5,
        );
        let mut zone = Zone::new(name("test."), soa);
        for (owner, data) in records {
            zone.insert(name(owner), 5, data);
        }
        zone
    }

    fn data(records: &[Record]) -> Vec<RData> {
        records.iter().map(|record| record.data.clone()).collect()
    }

    #[test]
    fn case_does_not_count_and_is_kept() {
        let zone = zone([("web.test.", address(1))]);
        let answer = zone.answer(&name("wEB.Test."), RecordType::A);
        assert_eq!(data(&answer.answers), [address(1)]);
        assert!(answer.answers[0].name.eq_case(&name("wEB.Test.")));
    }

    #[test]
    fn a_missing_name_a_missing_type_and_an_empty_name_are_told_apart() {
        let zone = zone([("a.b.test.", address(1))]);
        for (asked, code) in [
            ("a.b.test.", ResponseCode::NoError),
            ("b.test.", ResponseCode::NoError),
            ("test.", ResponseCode::NoError),
            ("c.test.", ResponseCode::NXDomain),
            ("x.a.b.test.", ResponseCode::NXDomain),
        ] {
            let answer = zone.answer(&name(asked), RecordType::AAAA);
            assert_eq!((answer.code, answer.answers.len()), (code, 0), "{asked}");
            assert_eq!(
                answer.authorities[0].record_type(),
                RecordType::SOA,
                "{asked}"
            );
            assert_eq!(answer.authorities[0].ttl, 5, "RFC 2308 §3");
        }
    }

    #[test]
    fn aliases_are_followed_to_their_end_or_to_the_border() {
        let zone = zone([
            ("a.test.", alias("b.test.")),
            ("b.test.", alias("c.test.")),
            ("c.test.", address(1)),
            ("out.test.", alias("www.example.")),
            ("nowhere.test.", alias("missing.test.")),
            ("loop.test.", alias("loop.test.")),
        ]);
        let followed = zone.answer(&name("a.test."), RecordType::A);
        assert_eq!(
            data(&followed.answers),
            [alias("b.test."), alias("c.test."), address(1)]
        );
        let asked_for = zone.answer(&name("a.test."), RecordType::CNAME);
        assert_eq!(data(&asked_for.answers), [alias("b.test.")]);
        let out = zone.answer(&name("out.test."), RecordType::AAAA);
        assert_eq!(
            (data(&out.answers), out.leads_to),
            (vec![alias("www.example.")], Some(name("www.example.")))
        );
        // RFC 6604 §3: the code is the last name's.
        let nowhere = zone.answer(&name("nowhere.test."), RecordType::A);
        assert_eq!(
            (nowhere.answers.len(), nowhere.code),
            (1, ResponseCode::NXDomain)
        );
        assert_eq!(
            zone.answer(&name("loop.test."), RecordType::A).code,
            ResponseCode::ServFail
        );
    }

    #[test]
    fn addresses_change_places_and_none_is_lost() {
        let zone = zone((1..=8).map(|last| ("many.test.", address(last))));
        let firsts: HashSet<RData> = (0..200)
            .map(|_| {
                let mut answered = data(&zone.answer(&name("many.test."), RecordType::A).answers);
                let first = answered[0].clone();
                answered.sort_by_key(|data| data.to_string());
                assert_eq!(answered, (1..=8).map(address).collect::<Vec<_>>());
                first
            })
            .collect();
        assert_eq!(firsts.len(), 8);
    }

    proptest! {
        #[test]
        fn no_name_or_type_makes_it_panic(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..64), 0..9),
            kind: u16,
        ) {
            let Ok(name) = Name::from_labels(labels.iter().map(Vec::as_slice)) else { return Ok(()) };
            let zone = zone([("a.b.test.", address(1))]);
            let _ = zone.answer(&name, kind.into());
        }
    }
}
