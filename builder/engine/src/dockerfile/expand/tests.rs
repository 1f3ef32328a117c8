use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dockerfile::corpus;

const BACKSLASH: Expander = Expander::new('\\');

fn expand(word: &str, environment: &dyn Environment) -> Result<String, ExpandErrorKind> {
    match BACKSLASH.process_word(word, environment) {
        Ok(expanded) => Ok(expanded.text),
        Err(error) => Err(error.kind),
    }
}

#[test]
fn words_of_the_corpus_expand_as_expected() {
    let Some(text) = corpus::read("words/expand.txt") else {
        return;
    };
    // The environment that the file assumes.
    let environment = [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
    ];
    let mut seen = 0;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [platform, word, expected] = fields[..] else {
            panic!("line {} has not three fields", number + 1);
        };
        if platform == "W" {
            continue;
        }
        seen += 1;
        match BACKSLASH.process_word(word, &environment) {
            Ok(expanded) => assert_eq!(expanded.text, expected, "line {}: {word}", number + 1),
            Err(error) => assert_eq!("error", expected, "line {}: {error}", number + 1),
        }
    }
    assert!(seen > 200, "only {seen} cases");
}

#[test]
fn words_of_the_corpus_split_as_expected() {
    let Some(text) = corpus::read("words/split.txt") else {
        return;
    };
    let mut environment = BTreeMap::new();
    let mut seen = 0;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        if let Some(variable) = line.strip_prefix("ENV ") {
            let (name, value) = variable.split_once('=').unwrap();
            environment.insert(name.to_owned(), value.to_owned());
            continue;
        }
        seen += 1;
        let (word, expected) = line.split_once('|').unwrap();
        let expected: Vec<_> = expected.trim_start_matches(' ').split(',').collect();
        match BACKSLASH.process_words(word.trim(), &environment) {
            Ok(expanded) => assert_eq!(expanded.words, expected, "line {}: {word}", number + 1),
            Err(error) => assert_eq!(vec!["error"], expected, "line {}: {error}", number + 1),
        }
    }
    assert_eq!(seen, 24);
}

#[test]
fn defaults_and_alternatives_tell_unset_from_empty() {
    let environment = [("FULL", "xxx"), ("EMPTY", "")];
    for (word, expected) in [
        ("${FULL-a} ${EMPTY-b} ${NONE-c}", "xxx  c"),
        ("${FULL:-a} ${EMPTY:-b} ${NONE:-c}", "xxx b c"),
        ("${FULL+a} ${EMPTY+b} ${NONE+c}", "a b "),
        ("${FULL:+a} ${EMPTY:+b} ${NONE:+c}", "a  "),
        ("${FULL?a}${EMPTY?b}", "xxx"),
    ] {
        assert_eq!(expand(word, &environment).unwrap(), expected, "{word}");
    }
}

#[test]
fn a_mandatory_variable_fails_with_its_own_message() {
    let environment = [("EMPTY", ""), ("ARG", "x")];
    let message = |word| expand(word, &environment).unwrap_err().to_string();
    assert_eq!(message("${VAR?needs $ARG}"), "VAR: needs x");
    assert_eq!(message("${EMPTY:?needs $ARG}"), "EMPTY: needs x");
    assert_eq!(message("${VAR?}"), "VAR: is not allowed to be unset");
    assert_eq!(message("${EMPTY:?}"), "EMPTY: is not allowed to be empty");
}

#[test]
fn patterns_may_come_from_variables_and_hold_escapes() {
    let environment = [
        ("FOO", "xxyy"),
        ("BAR", "x"),
        ("SPECIAL", "()[]{}^$.*?|\\x"),
        ("PATH", "/tmp/foo.txt"),
        ("SLASHES", "/tmp"),
        ("STARS", "xx**"),
        ("GREEDY", "#*x"),
        ("EMPTY", ""),
    ];
    for (word, expected) in [
        ("${FOO#$BAR}", "xyy"),
        ("${FOO#*x*y}", "y"),
        ("${FOO##*x}", "yy"),
        ("${FOO#$GREEDY}", "yy"),
        ("${FOO%y*}", "xxy"),
        ("${FOO%%y*}", "xx"),
        ("${STARS%%\\**}", "xx"),
        ("${FOO#}${FOO%}${FOO##}", "xxyyxxyyxxyy"),
        ("${SPECIAL#()[]{\\}^$.\\*\\?|\\\\}", "x"),
        ("${PATH//\\//\\/}", "\\/tmp\\/foo.txt"),
        ("${PATH/$SLASHES/}", "/foo.txt"),
        ("${PATH/\"tmp\"/'a b'}", "/a b/foo.txt"),
        ("${FOO/$EMPTY/ww}", "wwxxyy"),
        ("${FOO///}", "xxyy"),
        ("${NONE///}", ""),
        ("${NONE#x}-${NONE%x}", "-"),
    ] {
        assert_eq!(expand(word, &environment).unwrap(), expected, "{word}");
    }
}

#[test]
fn broken_substitutions_say_what_is_broken() {
    use ExpandErrorKind::{
        BadSubstitution, DoubleQuote, MissingBrace, MissingSlash, PatternEscape, SingleQuote,
        UnsupportedModifier,
    };
    let environment = [("FOO", "xxyy")];
    for (word, expected) in [
        ("${", MissingBrace),
        ("a${FOO", MissingBrace),
        ("${FOO:", MissingBrace),
        ("${FOO:-${FOO}", MissingBrace),
        ("${FOO#x", MissingBrace),
        ("${FOO//ww}", MissingSlash),
        ("${FOO//}", MissingSlash),
        ("${FOO/a/b", MissingBrace),
        ("${}", BadSubstitution),
        ("${:x}", BadSubstitution),
        ("${{FOO}}", BadSubstitution),
        ("${FOO=a}", UnsupportedModifier("=".to_owned())),
        ("${FOO:=a}", UnsupportedModifier(":=".to_owned())),
        ("${FOO:#a}", UnsupportedModifier(":#".to_owned())),
        ("${FOO:%a}", UnsupportedModifier(":%".to_owned())),
        ("${FOO#\\x}", PatternEscape("x".to_owned())),
        ("a'b", SingleQuote),
        ("a\"b", DoubleQuote),
    ] {
        assert_eq!(expand(word, &environment), Err(expected), "{word}");
    }
}

#[test]
fn an_error_points_to_the_part_that_is_broken() {
    let error = BACKSLASH
        .process_word("ok ${FOO} ${BAR", &[("FOO", "")])
        .unwrap_err();
    assert_eq!(error.offset, 10);
    assert_eq!(
        error.to_string(),
        "failed to process \"ok ${FOO} ${BAR\": syntax error: missing '}'"
    );
}

#[test]
fn the_variables_that_a_word_asks_for_are_named() {
    let environment = [("FOO", "y"), ("EMPTY", "")];
    let asked = |word: &str| {
        let expanded = BACKSLASH.process_word(word, &environment).unwrap();
        (
            Vec::from_iter(expanded.defined),
            Vec::from_iter(expanded.undefined),
        )
    };
    let names = |names: &[&str]| Vec::from_iter(names.iter().map(|name| (*name).to_owned()));
    for (word, defined, undefined) in [
        ("x $FOO ${FOO}", &["FOO"][..], &[][..]),
        ("$B ${A} ${A#x} $EMPTY", &["EMPTY"], &["A", "B"]),
        ("${A:-x} ${B+x} ${FOO?}", &["FOO"], &["A", "B"]),
        ("${A:-$B}", &[], &["A", "B"]),
        ("'$A' \\$B", &[], &[]),
    ] {
        assert_eq!(asked(word), (names(defined), names(undefined)), "{word}");
    }
}

#[test]
fn the_escape_character_may_be_a_backtick() {
    let backtick = Expander::new('`');
    let environment = [("A", "1")];
    let text = |word| backtick.process_word(word, &environment).unwrap().text;
    assert_eq!(text("c:\\$A"), "c:\\1");
    assert_eq!(text("`$A"), "$A");
    assert_eq!(text("\"`$A`x\""), "$A`x");
}

#[test]
fn heredoc_bodies_keep_their_quotes() {
    let environment = [("name", "world")];
    for (body, expected) in [
        ("Hello '${name}'!\n", "Hello 'world'!\n"),
        ("\"${name}\" it's\n", "\"world\" it's\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ("\\$name\n", "$name\n"),
        ("${x:-\"$name\"}\n", "\"world\"\n"),
    ] {
        let expanded = Expander::process_heredoc(body, &environment).unwrap();
        assert_eq!(expanded.text, expected, "{body}");
    }
}

#[test]
fn values_are_split_only_outside_quotes() {
    let environment = [("A", "1 2"), ("E", "")];
    let words = |word| BACKSLASH.process_words(word, &environment).unwrap().words;
    assert_eq!(words("$A \"$A\" '$A'"), ["1", "2", "1 2", "$A"]);
    assert_eq!(words("x${A}y"), ["x1", "2y"]);
    assert_eq!(words(" $E \"\" "), [""; 0]);
}

#[test]
fn nesting_without_end_is_an_error_and_no_crash() {
    let deep = |levels: usize| format!("{}x{}", "${A:-".repeat(levels), "}".repeat(levels));
    let environment: [(&str, &str); 0] = [];
    assert_eq!(expand(&deep(50), &environment).unwrap(), "x");
    assert!(matches!(
        expand(&deep(100_000), &environment),
        Err(ExpandErrorKind::TooDeep(_))
    ));
}

proptest! {
    #[test]
    fn no_word_panics(word in "[$\\{\\}:\\-+?#%/*\\\\'\"`a1 ö\n]{0,24}", value in "[ab/*]{0,6}") {
        let environment = [("a", value.as_str())];
        for expander in [BACKSLASH, Expander::new('`')] {
            let whole = expander.process_word(&word, &environment);
            let split = expander.process_words(&word, &environment);
            prop_assert_eq!(whole.is_ok(), split.is_ok());
            if let (Ok(whole), Ok(split)) = (whole, split) {
                let squeeze = |text: &str| text.split_whitespace().collect::<String>();
                prop_assert_eq!(squeeze(&whole.text), squeeze(&split.words.concat()));
            }
        }
        drop(Expander::process_heredoc(&word, &environment));
    }

    #[test]
    fn text_without_special_characters_stays(word in "[^$'\"\\\\]{0,40}") {
        let environment: [(&str, &str); 0] = [];
        prop_assert_eq!(expand(&word, &environment).unwrap(), word);
    }

    #[test]
    fn quoted_values_come_back_whole(value in "\\PC{0,20}") {
        let environment = [("a", value.as_str())];
        let words = BACKSLASH.process_words("\"$a\"", &environment).unwrap().words;
        prop_assert_eq!(words.concat(), value);
    }
}
