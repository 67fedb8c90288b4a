//! Nothing that a cluster says gets through a report as anything but text.

#[path = "given/hostile.rs"]
mod hostile;

use inroads_reports::{
    Direction, bencher, benchmark_action, beside, comparison, csv, junit, markdown, matrix,
    openmetrics, table,
};

/// What moves the cursor, colours, hides or turns round text.
fn is_unseen(character: char) -> bool {
    (character.is_control() && character != '\n')
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{ffff}')
}

/// That a text has no such character, and that hostile text is in it: a report that leaves all of it out tests nothing.
fn assert_seen(what: &str, text: &str) {
    for (number, line) in text.lines().enumerate() {
        let unseen = line.chars().find(|c| is_unseen(*c));
        assert_eq!(unseen, None, "{what}, line {}: {line:?}", number + 1);
    }
    let broken = text.contains("\n# heading") || text.contains("\n- item");
    assert!(!broken, "{what}: a line of its own");
    assert!(
        text.contains("\\u{1b}") || text.contains("\\u{202e}"),
        "{what}: {text}"
    );
}

#[test]
fn a_terminal_gets_no_control_characters() {
    let (run, changes) = (hostile::run(), hostile::comparison());
    assert_seen("table", &table(&run));
    assert_seen("matrix", &matrix(&run));
    assert_seen("comparison", &comparison(&changes));
}

#[test]
fn markdown_has_no_markup_from_a_cluster() {
    let (run, changes) = (hostile::run(), hostile::comparison());
    for (what, text) in [
        ("report", markdown(&run, Some(&changes))),
        ("beside", beside(&run, &run)),
    ] {
        let mut fence: Option<String> = None;
        for line in text.lines() {
            let run_of: String = line.chars().take_while(|c| *c == '`').collect();
            match &fence {
                Some(open) if line.trim_end() == open => fence = None,
                Some(_) => {}
                None if run_of.len() >= 3 && line.ends_with("text") => fence = Some(run_of),
                None => assert_plain(what, line),
            }
        }
        assert_eq!(fence, None, "{what}: a block of code has no end");
    }
    let text = markdown(&run, Some(&changes)).replace('\\', "");
    assert!(
        text.contains("u{1b}") && text.contains("&lt;script&gt;"),
        "{text}"
    );
}

/// A line outside a block of code: what is left of it without its code has none of the marks of hostile text.
fn assert_plain(what: &str, line: &str) {
    let plain = without_code(line);
    let plain = ["<details>", "<summary>", "</summary>", "</details>", "<br>"]
        .iter()
        .fold(plain, |plain, ours| plain.replace(ours, ""));
    assert!(
        !plain.contains(['<', '\u{1b}', '\u{202e}', '\u{0}']),
        "{what}: {line}"
    );
    assert!(
        !plain.contains("://") && !plain.contains("www."),
        "{what}: {line}"
    );
    assert!(!plain.contains("@everyone"), "{what}: {line}");
    let bare = |mark: char| {
        let mut bare = plain.match_indices(mark);
        bare.any(|(at, _)| !plain[..at].ends_with('\\'))
    };
    assert!(
        !['`', '[', ']', '~', '$'].into_iter().any(bare),
        "{what}: {line}"
    );
    if bare('|') {
        assert!(
            line.starts_with('|') && line.ends_with('|'),
            "{what}: {line}"
        );
    }
}

/// What a line has beside spans of code: CommonMark 0.31, §6.1.
fn without_code(line: &str) -> String {
    let (mut plain, mut rest) = (String::new(), line);
    while let Some(at) = rest.find('`') {
        let (before, from) = rest.split_at(at);
        if before.ends_with('\\') {
            plain += before;
            plain.push('`');
            rest = &from[1..];
            continue;
        }
        plain += before;
        let open = from.bytes().take_while(|byte| *byte == b'`').count();
        let after = &from[open..];
        let mut end = 0;
        let close = loop {
            let Some(next) = after[end..].find('`') else {
                panic!("code without an end: {line}");
            };
            let begin = end + next;
            let length = after[begin..]
                .bytes()
                .take_while(|byte| *byte == b'`')
                .count();
            end = begin + length;
            if length == open {
                break end;
            }
        };
        rest = &after[close..];
    }
    plain + rest
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_its_head() {
    let text = markdown(&hostile::run(), Some(&hostile::comparison()));
    let cells = |line: &str| {
        let bare = line
            .match_indices('|')
            .filter(|(at, _)| !line[..*at].ends_with('\\'));
        bare.count()
    };
    let mut head = None;
    let mut rows = 0;
    for line in text.lines() {
        if !line.starts_with('|') {
            head = None;
            continue;
        }
        let expected = *head.get_or_insert(cells(line));
        assert_eq!(cells(line), expected, "{line}");
        rows += 1;
    }
    assert!(rows > 50, "{rows} rows");
}

#[test]
fn junit_is_xml_1_0() {
    let xml = junit(&hostile::run(), Some(&hostile::comparison()));
    assert_seen("junit", &xml);
    assert!(
        !xml.contains("<script") && !xml.contains("<img") && !xml.contains("]]>"),
        "{xml}"
    );
    // What opens is closed, and every other bracket and ampersand is an entity.
    let mut open = Vec::new();
    for tag in xml.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag ends");
        for entity in tag.split('&').skip(1).chain(text.split('&').skip(1)) {
            let name = entity.split(';').next().unwrap();
            assert!(
                ["lt", "gt", "amp", "quot", "apos"].contains(&name),
                "{entity}"
            );
        }
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        match tag {
            _ if tag.starts_with('?') || tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "{tag}"),
            _ => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn no_cell_of_csv_is_a_formula() {
    let run = hostile::run();
    let text = csv(&run);
    assert_seen("csv", &text);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut lines = 0;
    for line in reader.records() {
        let line = line.unwrap();
        for cell in &line {
            let number = cell.parse::<f64>().is_ok();
            assert!(
                number || !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{cell}"
            );
        }
        lines += 1;
    }
    assert_eq!(lines, run.measurements.len());
    assert!(text.contains(",'@everyone"), "{text}");
}

#[test]
fn exports_for_other_tools_are_well_formed() {
    let run = hostile::run();
    let gauges = openmetrics(&run);
    assert_seen("openmetrics", &gauges);
    assert!(gauges.ends_with("# EOF\n"));
    for line in gauges.lines().filter(|line| !line.starts_with("# ")) {
        assert!(line.starts_with("inroads_"), "{line}");
    }
    for (what, json) in [
        ("bencher", bencher(&run)),
        (
            "smaller",
            benchmark_action(&run, Direction::SmallerIsBetter),
        ),
        ("bigger", benchmark_action(&run, Direction::BiggerIsBetter)),
    ] {
        let value: serde_json::Value = serde_json::from_str(&json).expect(what);
        assert_no_controls(what, &value);
    }
}

/// JSON escapes controls by itself; what a page shows of it must not have them either.
fn assert_no_controls(what: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            assert!(!text.chars().any(is_unseen), "{what}: {text:?}");
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|it| assert_no_controls(what, it));
        }
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, it)| {
            assert!(!name.chars().any(is_unseen), "{what}: {name:?}");
            assert_no_controls(what, it);
        }),
        _ => {}
    }
}
