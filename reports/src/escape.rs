//! Text from elsewhere, made harmless for the form that it goes into.
//!
//! Names, versions and error texts come from a cluster, and whoever runs a pod there chooses some of them. Here they
//! become text and nothing else: no escape sequence, no markup, no line of its own. HTML is not done here, but by `maud`.

/// One line for a terminal: what would move the cursor, colour, hide or turn round text is shown as an escape, `\u{1b}`.
#[must_use]
pub(crate) fn terminal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unseen(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// One line of Markdown, in a paragraph, a list or a cell of a table, and harmless in the HTML that Markdown lets through.
#[must_use]
pub(crate) fn markdown(text: &str) -> String {
    let line = terminal(text.replace(['\n', '\r', '\t'], " ").trim());
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let mut escaped = String::with_capacity(line.len());
    for (at, character) in line.char_indices() {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + character.len_utf8()..).unwrap_or_default();
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // A bare address would become a link.
            ':' if after.starts_with("//") => escaped.push_str("&#58;"),
            '.' if ends_with_www(before) => escaped.push_str("&#46;"),
            // The name of a user or a team would call them; a word joiner in between is seen by nobody.
            '@' => escaped.push_str("@&#8288;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '!' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(character);
            }
            // What begins a list, or underlines a heading.
            '-' | '+' | '=' if at == 0 => {
                escaped.push('\\');
                escaped.push(character);
            }
            '.' | ')' if at == digits && !after.starts_with(char::is_alphanumeric) => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Code within a line of Markdown: its fence is longer than any run of backticks inside.
#[must_use]
pub(crate) fn markdown_code(text: &str) -> String {
    let text = terminal(text);
    if text.trim().is_empty() {
        // Two backticks with nothing between them are no code, and would pair with others.
        return "` `".to_owned();
    }
    let longest = longest_run(&text);
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// The same in a cell of a table, which a pipe would end even there.
#[must_use]
pub(crate) fn markdown_code_cell(text: &str) -> String {
    markdown_code(text).replace('|', "\\|")
}

/// Lines that are already fit for a terminal, as a block of code in Markdown.
#[must_use]
pub(crate) fn markdown_block(lines: &str) -> String {
    let fence = "`".repeat((longest_run(lines) + 1).max(3));
    format!("{fence}text\n{lines}{fence}\n")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn ends_with_www(text: &str) -> bool {
    let last = text.len().checked_sub(3).and_then(|at| text.get(at..));
    last.is_some_and(|last| last.eq_ignore_ascii_case("www"))
}

/// Controls (ESC and the C1 set among them), what sets the direction of text (Unicode UAX #9; "Trojan Source",
/// CVE-2021-42574), what has no width, the separators of lines, and what is no character at all.
fn is_unseen(character: char) -> bool {
    let no_character = u32::from(character) & 0xfffe == 0xfffe;
    character.is_control()
        || no_character
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text made of what does harm, and of ordinary text in between.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "`",
                "``",
                "|",
                "\\",
                "\n",
                "\r\n",
                "\t",
                "<b>",
                "&lt;",
                "*",
                "_",
                "[a](b)",
                "![",
                "# ",
                "- ",
                "1. ",
                "1) ",
                "~~",
                "http://x",
                "www.x",
                "a@b",
                "\u{1b}[31m",
                "\u{9b}2J",
                "\u{202e}",
                "\u{0}",
                "$",
            ])
            .prop_map(ToOwned::to_owned),
            any::<char>().prop_map(String::from),
            "[a-z ]{0,6}",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// What a reader of the Markdown sees.
    fn rendered(markdown: &str) -> String {
        let mut text = String::new();
        let mut characters = markdown.chars();
        while let Some(character) = characters.next() {
            if character == '\\' {
                text.extend(characters.next());
            } else {
                text.push(character);
            }
        }
        let entities = [
            ("&#8288;", ""),
            ("&#58;", ":"),
            ("&#46;", "."),
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&amp;", "&"),
        ];
        entities
            .iter()
            .fold(text, |text, (entity, is)| text.replace(entity, is))
    }

    proptest! {
        #[test]
        fn a_terminal_gets_one_line_without_controls(text in hostile()) {
            let shown = terminal(&text);
            prop_assert!(!shown.chars().any(is_unseen), "{shown:?}");
            prop_assert!(!shown.chars().any(char::is_control));
        }

        #[test]
        fn ordinary_text_stays_as_it_is(text in "[ -~äßµ×→✔]{0,40}") {
            prop_assert_eq!(terminal(&text), text);
        }

        #[test]
        fn markdown_has_no_mark_that_is_not_escaped(text in hostile()) {
            let escaped = markdown(&text);
            prop_assert!(!escaped.contains(['<', '>', '\n', '\r']), "{escaped:?}");
            prop_assert!(!escaped.contains("://") && !escaped.to_lowercase().contains("www."), "{escaped:?}");
            prop_assert!(!escaped.chars().any(is_unseen), "{escaped:?}");
            prop_assert!(!escaped.starts_with(['-', '+', '=', ' ']), "{escaped:?}");
            let mut characters = escaped.chars();
            while let Some(character) = characters.next() {
                if character == '\\' {
                    characters.next();
                } else {
                    let entity = character == '#' && characters.as_str().starts_with(|c: char| c.is_ascii_digit());
                    prop_assert!(entity || !"|*_`[]#!~$".contains(character), "{escaped:?}");
                }
            }
        }

        #[test]
        fn markdown_loses_nothing_but_line_breaks(text in hostile()) {
            let line = terminal(text.replace(['\n', '\r', '\t'], " ").trim());
            prop_assert_eq!(rendered(&markdown(&text)), line);
        }

        #[test]
        fn code_ends_where_its_fence_does(text in hostile()) {
            let code = markdown_code(&text);
            let fence = code.bytes().take_while(|byte| *byte == b'`').count();
            let inside = &code[fence..code.len() - fence];
            prop_assert!(longest_run(inside) < fence, "{code:?}");
            prop_assert!(!inside.starts_with('`') && !inside.ends_with('`'), "{code:?}");
            prop_assert!(!code.chars().any(is_unseen), "{code:?}");
        }

        #[test]
        fn a_cell_has_no_bare_pipe(text in hostile()) {
            for cell in [markdown(&text), markdown_code_cell(&text)] {
                let bare = cell.match_indices('|').any(|(at, _)| !cell[..at].ends_with('\\'));
                prop_assert!(!bare, "{cell:?}");
            }
        }

        #[test]
        fn a_block_ends_where_its_fence_does(text in hostile()) {
            let block = markdown_block(&(terminal(&text) + "\n"));
            let fence: String = block.chars().take_while(|c| *c == '`').collect();
            prop_assert_eq!(block.lines().filter(|line| line.contains(&fence)).count(), 2);
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(
            terminal("\u{1b}[31m\u{202e}a\n\u{0}"),
            "\\u{1b}[31m\\u{202e}a\\n\\u{0}"
        );
        assert_eq!(
            markdown("<script>|`x`\n# y"),
            "&lt;script&gt;\\|\\`x\\` \\# y"
        );
        assert_eq!(
            markdown("- http://x @team 1."),
            "\\- http&#58;//x @&#8288;team 1."
        );
        assert_eq!(markdown("1. x"), "1\\. x");
        assert_eq!(markdown("10.244.1.3"), "10.244.1.3");
        assert_eq!(markdown_code("a`b"), "`` a`b ``");
        assert_eq!(markdown_code("a|b"), "`a|b`");
        assert_eq!(markdown_code_cell("a|b"), "`a\\|b`");
    }
}
