//! No word makes the expander panic, whole and split words agree, and plain text stays.
#![no_main]

use ashlar_engine::dockerfile::Expander;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, bool)| {
    let (word, value, backtick) = input;
    let escape = if backtick { '`' } else { '\\' };
    let expander = Expander::new(escape);
    let environment = [("a", value), ("empty", "")];
    let whole = expander.process_word(word, &environment);
    let split = expander.process_words(word, &environment);
    assert_eq!(whole.is_ok(), split.is_ok(), "{word}");
    if let (Ok(whole), Ok(split)) = (whole, split) {
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(
            squeeze(&whole.text),
            squeeze(&split.words.concat()),
            "{word}"
        );
        if !word.contains(['$', '\'', '"', escape]) {
            assert_eq!(whole.text, word);
        }
    }
    drop(Expander::process_heredoc(word, &environment));
});
