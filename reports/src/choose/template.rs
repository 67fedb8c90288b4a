//! A `team.toml` with every field, its question, its values and what they mean; and the fields themselves, which the
//! interview asks for too, so that the two cannot drift apart.

use std::fmt::Write as _;

use super::team::Team;

/// A field of `team.toml`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// The table that it stands in; empty for the top of the file.
    pub(super) table: &'static str,
    /// Its key.
    pub(super) key: &'static str,
    /// What it asks.
    pub(super) ask: &'static str,
    /// What answers.
    pub(super) form: Form,
}

/// What answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One of these.
    One(&'static [Choice]),
    /// Any of these; at least so many.
    Several(&'static [Choice], usize),
    /// Yes or no.
    YesNo,
    /// A whole number from this one on.
    Whole(u32),
    /// The same, or nothing.
    WholeOrNothing,
    /// Any text, or none.
    Words,
}

/// A value that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// As it stands in the file.
    pub value: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn choice(value: &'static str, meaning: &'static str) -> Choice {
    Choice { value, meaning }
}

const WHO: Form = Form::One(&[
    choice("team", "the team itself"),
    choice("another-department", "somebody who has to be asked"),
    choice("nobody", "nobody who could be asked"),
]);

const fn field(table: &'static str, key: &'static str, ask: &'static str, form: Form) -> Field {
    Field {
        table,
        key,
        ask,
        form,
    }
}

/// All fields but those of workloads, in the order of the file: the top first, as TOML has it.
pub(super) const FIELDS: &[Field] = &[
    field(
        "",
        "name",
        "What is the team called? Empty where it does not matter",
        Form::Words,
    ),
    field("", "people", "How many people connect?", Form::Whole(1)),
    field(
        "",
        "matters",
        "What decides between methods that take equally few changes?",
        Form::One(&[
            choice(
                "effort",
                "how little users change: probes that pass unmodified",
            ),
            choice("latency", "the time until an answer"),
            choice("throughput", "answers each second"),
            choice(
                "cost",
                "processor time for each request, on the laptop and in the cluster",
            ),
        ]),
    ),
    field(
        "laptops",
        "os",
        "Which systems do the laptops run?",
        Form::Several(
            &[
                choice("linux", "what was measured"),
                choice("macos", "not measured"),
                choice("windows", "not measured"),
            ],
            1,
        ),
    ),
    field(
        "laptops",
        "root",
        "Who is root (administrator) on the laptop?",
        Form::One(&[
            choice("yes", "everybody"),
            choice("some", "some of the team"),
            choice("no", "nobody"),
        ]),
    ),
    field(
        "rights",
        "gateways",
        "Who may configure the gateways and routers between laptops and nodes?",
        WHO,
    ),
    field(
        "rights",
        "privileged_pods",
        "Who may run privileged pods in the cluster?",
        WHO,
    ),
    field(
        "rights",
        "node_ports",
        "Who may open node ports, and let laptops reach them through firewalls?",
        WHO,
    ),
    field(
        "rights",
        "port_forward",
        "Who may grant the right to forward ports (RBAC)?",
        WHO,
    ),
    field(
        "rights",
        "api_server",
        "Do laptops reach the API server?",
        Form::YesNo,
    ),
    field(
        "cluster",
        "place",
        "Where is the cluster, seen from the laptops?",
        Form::One(&[
            choice("same-lan", "laptops and nodes are on one LAN"),
            choice("other-site", "behind routers of the same company"),
            choice("cloud", "in a cloud"),
        ]),
    ),
    field(
        "cluster",
        "overlap",
        "Do its pod or Service networks overlap a network on the laptops' side?",
        Form::One(&[
            choice("no", "they do not"),
            choice("unknown", "nobody knows, as of home networks"),
            choice("yes", "they do"),
        ]),
    ),
    field("needs", "udp", "Must UDP work?", Form::YesNo),
    field("needs", "icmp", "Must pods answer a ping?", Form::YesNo),
    field(
        "needs",
        "cluster_names",
        "For whom must the cluster's DNS names work?",
        Form::One(&[
            choice("no", "for nobody"),
            choice("clients", "for clients, which may be given a setting"),
            choice("every-program", "for every program, with no setting"),
        ]),
    ),
    field(
        "needs",
        "source_ip",
        "Must pods see the client's own address?",
        Form::YesNo,
    ),
    field(
        "needs",
        "confidential",
        "Must others on the LAN be kept from reading what goes through? Not where all of it is TLS",
        Form::YesNo,
    ),
    field(
        "needs",
        "authenticated",
        "Must others on the LAN be kept from getting in?",
        Form::YesNo,
    ),
    field(
        "needs",
        "other_traffic_untouched",
        "Must the laptop's other traffic and names stay as they are?",
        Form::YesNo,
    ),
    field(
        "needs",
        "tolerated_silence_s",
        "How many seconds without an answer are tolerated after a restart? Any number, where nothing is said",
        Form::WholeOrNothing,
    ),
];

/// What a driver can take, as one choice: absent, none, either or both.
pub(super) const DRIVERS: &[Choice] = &[
    choice("unknown", "nobody knows"),
    choice("neither", "it can be set up in no way"),
    choice("proxy", "a SOCKS5 proxy that resolves names"),
    choice("address-map", "another address for each that it is told of"),
    choice("both", "either"),
];

/// The names that scenarios stand for.
pub(super) const KNOWN_WORKLOADS: &[Choice] = &[
    choice("http", "an HTTP service"),
    choice(
        "redis-cluster",
        "Redis Cluster, whose nodes send clients on",
    ),
    choice(
        "mongo-replica-set",
        "a MongoDB replica set, whose members clients are told of",
    ),
    choice("dns", "the cluster's DNS itself"),
];

/// A `team.toml` with the values of `team`, and a comment on every field.
#[must_use]
pub fn template(team: &Team) -> String {
    let values = toml::Table::try_from(team).expect("a team is plain data");
    let mut text = String::from(
        "# A team, for `inroads choose --team FILE [RUN]`. A field that is left out has the value that\n\
         # `inroads choose --template` prints.\n",
    );
    let mut table = "";
    for field in FIELDS {
        if field.table != table {
            table = field.table;
            line(&mut text, format_args!("\n[{table}]"));
        }
        comment(&mut text, field);
        let holder = match field.table {
            "" => Some(&values),
            table => values.get(table).and_then(toml::Value::as_table),
        };
        match holder.and_then(|it| it.get(field.key)) {
            Some(value) => line(&mut text, format_args!("{} = {value}", field.key)),
            None => line(&mut text, format_args!("# {} = 30", field.key)),
        }
    }
    workloads(&mut text, values.get("workload"));
    text
}

fn comment(text: &mut String, field: &Field) {
    let values = match field.form {
        Form::Several(..) => " Several may stand in the list.",
        Form::YesNo => " true or false.",
        Form::Whole(_) | Form::WholeOrNothing => " A whole number.",
        Form::One(_) | Form::Words => "",
    };
    let stop = if field.ask.ends_with('?') { "" } else { "." };
    line(text, format_args!("\n# {}{stop}{values}", field.ask));
    if let Form::One(choices) | Form::Several(choices, _) = field.form {
        list(text, choices);
    }
}

fn list(text: &mut String, choices: &[Choice]) {
    for choice in choices {
        let value = format!("\"{}\"", choice.value);
        line(text, format_args!("#   {value:<20} {}", choice.meaning));
    }
}

fn workloads(text: &mut String, workloads: Option<&toml::Value>) {
    *text += "\n# What is reached: one [[workload]] for each. Of any other name its addresses alone are asked for.\n";
    list(text, KNOWN_WORKLOADS);
    *text += "# `driver` is a list of what its driver can be set to, empty where it is nothing, and left out where nobody\n\
              # knows; an HTTP client takes both where nothing is said.\n";
    list(text, DRIVERS.get(2..4).unwrap_or_default());
    let workloads = workloads.and_then(toml::Value::as_array);
    let all = workloads.into_iter().flatten();
    let tables: Vec<&toml::Table> = all.filter_map(toml::Value::as_table).collect();
    if tables.is_empty() {
        // A key behind a table would be one of that table's.
        *text = text.replacen("\npeople =", "\nworkload = []\npeople =", 1);
    }
    for table in tables {
        *text += "[[workload]]\n";
        for (key, value) in table {
            line(text, format_args!("{key} = {value}"));
        }
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{arguments}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_team_it_was_made_of() {
        let mut other = Team {
            name: "a \"b\"\n\\".to_owned(),
            ..Team::default()
        };
        other.needs.tolerated_silence_s = Some(5);
        let none = Team {
            workloads: Vec::new(),
            ..Team::default()
        };
        for team in [Team::default(), other, none] {
            let text = template(&team);
            assert_eq!(Team::read(&text, "template"), Ok(team), "{text}");
        }
    }

    #[test]
    fn every_field_and_every_value_of_it_stands_in_the_template_and_is_taken() {
        let default = toml::Table::try_from(Team::default()).unwrap();
        let text = template(&Team::default());
        let keys = default
            .iter()
            .flat_map(|(key, value)| match value.as_table() {
                Some(table) => table.keys().cloned().collect(),
                None if key == "workload" => Vec::new(),
                None => vec![key.clone()],
            });
        let mut count = 0;
        for key in keys {
            assert!(
                text.contains(&format!("\n{key} = ")),
                "{key} is not in the template"
            );
            count += 1;
        }
        // The one that has no default is a comment.
        assert_eq!(count + 1, FIELDS.len());
        for field in FIELDS {
            let (Form::One(choices) | Form::Several(choices, _)) = field.form else {
                continue;
            };
            for choice in choices {
                let value = match field.form {
                    Form::Several(..) => format!("[\"{}\"]", choice.value),
                    _ => format!("\"{}\"", choice.value),
                };
                let head = if field.table.is_empty() {
                    String::new()
                } else {
                    format!("[{}]\n", field.table)
                };
                let read = Team::read(&format!("{head}{} = {value}\n", field.key), "one");
                assert!(read.is_ok(), "{read:?}");
            }
        }
    }
}
