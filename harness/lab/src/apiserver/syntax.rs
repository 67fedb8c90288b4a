//! The grammar of names, label keys and values, and of the other small strings of the API.
//!
//! Each check gives the sentence with which the real API server refuses.

pub(crate) type Checked = Result<(), &'static str>;

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
     characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
     '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
     '-', start with an alphabetic character, and end with an alphanumeric character (e.g. \
     'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
     alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
     (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
     '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
     characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or \
     '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
     '[-._a-zA-Z0-9]+')";
const PORT_NAME: &str = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), \
     at least one letter, no two hyphens in a row and none at either end";
const ENV_NAME: &str = "a valid environment variable name must consist only of printable ASCII \
     characters other than '='";
const TOO_LONG_63: &str = "must be no more than 63 characters";
const TOO_LONG_253: &str = "must be no more than 253 bytes";

/// A name that is one label of a DNS name: namespaces, containers, hostnames.
pub(crate) fn label_1123(text: &str) -> Checked {
    if text.len() > 63 {
        return Err(TOO_LONG_63);
    }
    dns_label(text).then_some(()).ok_or(LABEL_1123)
}

/// Stricter: begins with a letter. Services, because their names become environment variables.
pub(crate) fn label_1035(text: &str) -> Checked {
    if text.len() > 63 {
        return Err(TOO_LONG_63);
    }
    let lettered = text.starts_with(|first: char| first.is_ascii_lowercase());
    (lettered && dns_label(text))
        .then_some(())
        .ok_or(LABEL_1035)
}

/// A name that is a DNS name: most objects.
pub(crate) fn subdomain_1123(text: &str) -> Checked {
    if text.len() > 253 {
        return Err(TOO_LONG_253);
    }
    text.split('.')
        .all(dns_label)
        .then_some(())
        .ok_or(SUBDOMAIN_1123)
}

/// A name that only must fit into a path of the API: roles and bindings.
pub(crate) fn path_segment(text: &str) -> Checked {
    match text {
        "." | ".." => Err("may not be '.' or '..'"),
        _ if text.contains('/') => Err("may not contain '/'"),
        _ if text.contains('%') => Err("may not contain '%'"),
        _ => Ok(()),
    }
}

/// A label's or an annotation's key: `name` or `prefix.example/name`.
pub(crate) fn qualified_name(text: &str) -> Checked {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            subdomain_1123(prefix).or(Err("prefix part must be a lowercase RFC 1123 subdomain"))?;
            name
        }
        None => text,
    };
    match name {
        "" => Err("name part must be non-empty"),
        _ if name.len() > 63 => Err("name part must be no more than 63 characters"),
        _ => label_text(name).then_some(()).ok_or(QUALIFIED),
    }
}

pub(crate) fn label_value(text: &str) -> Checked {
    if text.len() > 63 {
        return Err(TOO_LONG_63);
    }
    (text.is_empty() || label_text(text))
        .then_some(())
        .ok_or(LABEL_VALUE)
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Checked {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match text {
        "." | ".." => Err("may not be '.' or '..'"),
        _ if text.len() > 253 => Err(TOO_LONG_253),
        _ => (!text.is_empty() && text.bytes().all(plain))
            .then_some(())
            .ok_or(CONFIG_KEY),
    }
}

/// An IANA service name (RFC 6335): a port's name in a container.
pub(crate) fn port_name(text: &str) -> Checked {
    if text.len() > 15 {
        return Err("must be no more than 15 characters");
    }
    let lettered = text.bytes().any(|byte| byte.is_ascii_lowercase());
    (lettered && dns_label(text) && !text.contains("--"))
        .then_some(())
        .ok_or(PORT_NAME)
}

pub(crate) fn environment_name(text: &str) -> Checked {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    (!text.is_empty() && text.bytes().all(printable))
        .then_some(())
        .ok_or(ENV_NAME)
}

pub(crate) fn port_number(port: i32) -> Checked {
    (1..=65535)
        .contains(&port)
        .then_some(())
        .ok_or("must be between 1 and 65535, inclusive")
}

fn dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn label_text(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_keep_to_their_grammar() {
        type Case = (
            &'static str,
            fn(&str) -> Checked,
            &'static [&'static str],
            &'static [&'static str],
        );
        let cases: [Case; 7] = [
            (
                "label 1123",
                label_1123,
                &["a", "0", "web-0"],
                &["", "-a", "a-", "A", "a.b", "a_b"],
            ),
            (
                "label 1035",
                label_1035,
                &["a", "web-0"],
                &["", "0a", "a.b"],
            ),
            (
                "subdomain",
                subdomain_1123,
                &["a.b", "0"],
                &["", "a..b", ".a", "a.", "A"],
            ),
            (
                "key",
                qualified_name,
                &["app", "x.y/App_1"],
                &["", "/a", "x/", "x/y/z", "a b", "-a"],
            ),
            (
                "value",
                label_value,
                &["", "A_1.b-c"],
                &["-", "a b", "a-", "\u{e9}"],
            ),
            (
                "config key",
                config_key,
                &["a.b", "A_B", "..data"],
                &["", ".", "..", "a/b"],
            ),
            (
                "port name",
                port_name,
                &["http", "p-1"],
                &["", "80", "a--b", "sixteen-letters-"],
            ),
        ];
        for (grammar, check, good, bad) in cases {
            for text in good {
                assert!(check(text).is_ok(), "{grammar}: {text:?}");
            }
            for text in bad {
                assert!(check(text).is_err(), "{grammar}: {text:?}");
            }
        }
    }

    #[test]
    fn lengths_are_limited() {
        assert!(label_1123(&"a".repeat(63)).is_ok());
        assert!(label_1123(&"a".repeat(64)).is_err());
        assert!(label_value(&"a".repeat(64)).is_err());
        assert!(subdomain_1123(&["a".repeat(63).as_str(); 4].join(".")).is_err());
    }

    proptest! {
        #[test]
        fn the_stricter_names_are_also_the_laxer_ones(text in "[-a-z0-9.]{0,8}") {
            prop_assert!(label_1035(&text).is_err() || label_1123(&text).is_ok());
            prop_assert!(label_1123(&text).is_err() || subdomain_1123(&text).is_ok());
            prop_assert!(subdomain_1123(&text).is_err() || config_key(&text).is_ok());
        }
    }
}
