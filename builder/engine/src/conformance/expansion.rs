//! Variables in words.

use crate::dockerfile::Expander;

const ENVIRONMENT: [(&str, &str); 6] = [
    ("v", "value"),
    ("empty", ""),
    ("path", "/usr/lib/libx.so.1"),
    ("1", "one"),
    ("wörter", "umlaut"),
    ("stars", "a*b?c"),
];

fn word(text: &str) -> Result<String, String> {
    let expanded = Expander::new('\\').process_word(text, &ENVIRONMENT);
    expanded
        .map(|expanded| expanded.text)
        .map_err(|error| error.kind.to_string())
}

fn expands(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(word(text).as_deref(), Ok(*expected), "{text}");
    }
}

fn fails(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(word(text), Err((*expected).to_owned()), "{text}");
    }
}

#[test]
fn dollar_name_and_braces() {
    expands(&[
        ("$v", "value"),
        ("${v}x", "valuex"),
        ("$vx", ""),
        ("a-$v-b", "a-value-b"),
    ]);
}

#[test]
fn dash_is_a_default_and_plus_an_alternative() {
    expands(&[
        ("${none:-w}", "w"),
        ("${none-w}", "w"),
        ("${empty:-w}", "w"),
        ("${empty-w}", ""),
        ("${v:-w}", "value"),
        ("${v:+w}", "w"),
        ("${v+w}", "w"),
        ("${empty:+w}", ""),
        ("${empty+w}", "w"),
        ("${none+w}", ""),
        ("${none:-$v}", "value"),
        ("${none:-${empty:-${v}}}", "value"),
    ]);
}

#[test]
fn a_question_mark_demands_a_value() {
    expands(&[
        ("${v?x}", "value"),
        ("${v:?x}", "value"),
        ("${empty?x}", ""),
    ]);
    fails(&[
        ("${none?give $v}", "none: give value"),
        ("${none:?}", "none: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
    ]);
}

#[test]
fn number_signs_strip_beginnings_and_percent_signs_ends() {
    expands(&[
        ("${path#*/}", "usr/lib/libx.so.1"),
        ("${path##*/}", "libx.so.1"),
        ("${path%.*}", "/usr/lib/libx.so"),
        ("${path%%.*}", "/usr/lib/libx"),
        ("${path#nothing}", "/usr/lib/libx.so.1"),
        ("${path%?}", "/usr/lib/libx.so."),
        ("${none#x}", ""),
    ]);
}

#[test]
fn slashes_replace_the_first_match_or_all() {
    expands(&[
        ("${path/\\//:}", ":usr/lib/libx.so.1"),
        ("${path//\\//:}", ":usr:lib:libx.so.1"),
        ("${path/lib*x/y}", "/usr/y.so.1"),
        ("${v/a/}", "vlue"),
    ]);
}

#[test]
fn patterns_have_stars_and_question_marks_and_escapes_but_no_brackets() {
    expands(&[
        ("${stars#a\\*}", "b?c"),
        ("${stars%\\?c}", "a*b"),
        ("${v#[v]}", "value"),
        ("${stars/\\*/\\}}", "a\\}b?c"),
    ]);
    fails(&[(
        "${v#\\x}",
        "invalid pattern in substitution: invalid escape '\\x'",
    )]);
}

#[test]
fn a_colon_before_a_number_or_percent_sign_is_an_error() {
    fails(&[
        ("${v:#x}", "unsupported modifier (:#) in substitution"),
        ("${v:%x}", "unsupported modifier (:%) in substitution"),
        ("${v:=x}", "unsupported modifier (:=) in substitution"),
        ("${v^^}", "unsupported modifier (^) in substitution"),
    ]);
}

#[test]
fn braces_without_a_name_are_bad_and_open_ones_miss_their_end() {
    for text in ["${}", "${:x}", "${{v}}"] {
        assert_eq!(word(text), Err("syntax error: bad substitution".to_owned()));
    }
    for text in ["${", "${v", "${v:-x", "${v#x"] {
        assert_eq!(
            word(text),
            Err("syntax error: missing '}'".to_owned()),
            "{text}"
        );
    }
    fails(&[("${v/x}", "syntax error: missing '/' in ${}")]);
}

#[test]
fn a_dollar_before_anything_else_stays() {
    expands(&[
        ("$", "$"),
        ("a$", "a$"),
        ("$ x", "$ x"),
        ("$/x", "$/x"),
        ("100$.", "100$."),
    ]);
}

#[test]
fn names_are_letters_digits_runs_or_one_special_character() {
    expands(&[
        ("$1x", "onex"),
        ("$12", ""),
        ("$wörter", "umlaut"),
        ("$@$*$#$?$-$!x", "x"),
        ("$$v", "v"),
        ("${1}", "one"),
    ]);
}

#[test]
fn single_quotes_keep_and_double_quotes_expand() {
    expands(&[
        ("'$v \\x'", "$v \\x"),
        ("\"$v 'x'\"", "value 'x'"),
        ("\"\\$v \\\" \\\\ \\x\"", "$v \" \\ \\x"),
        ("a'b'\"c\"", "abc"),
    ]);
    fails(&[
        (
            "'x",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"x",
            "unexpected end of statement while looking for matching double-quote",
        ),
    ]);
}

#[test]
fn an_escape_outside_quotes_takes_the_next_character_and_falls_away_at_the_end() {
    expands(&[
        ("\\$v", "$v"),
        ("\\x\\\\", "x\\"),
        ("x\\", "x"),
        ("\\'", "'"),
    ]);
}

#[test]
fn the_escape_character_is_that_of_the_directive_and_a_backslash_in_heredocs() {
    let backtick = Expander::new('`').process_word("`$v \\$v", &ENVIRONMENT);
    assert_eq!(backtick.unwrap().text, "$v \\value");
    let body = Expander::process_heredoc("\\$v '$v' \"$v\"", &ENVIRONMENT);
    assert_eq!(body.unwrap().text, "$v 'value' \"value\"");
}

#[test]
fn an_undefined_variable_is_empty() {
    expands(&[("<$none>", "<>"), ("<${none}>", "<>")]);
}

#[test]
fn an_error_names_the_word() {
    let error = Expander::new('\\').process_word("a ${v", &ENVIRONMENT);
    assert_eq!(
        error.unwrap_err().to_string(),
        "failed to process \"a ${v\": syntax error: missing '}'"
    );
}
