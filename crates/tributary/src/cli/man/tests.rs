use std::collections::BTreeMap;

use super::*;

/// By name, without `.1`.
fn written() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    run(&ManArgs { folder: Some(folder.path().to_owned()) }).expect("pages");
    let files = std::fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("a file"));
    let page = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().expect("UTF-8");
        let text = std::fs::read_to_string(file.path()).expect("a page");
        (name.strip_suffix(".1").expect("a page of section 1").to_owned(), text.replace("\\-", "-"))
    };
    files.map(page).collect()
}

/// Those below a command, with the words to type.
fn below(command: &clap::Command, words: &str, found: &mut Vec<String>) {
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let words = format!("{words} {}", subcommand.get_name());
        below(subcommand, &words, found);
        found.push(words);
    }
}

#[test]
fn the_main_page_has_every_command_and_exit_code() {
    let answer = run(&ManArgs { folder: None }).expect("a page");
    for part in ["tributary", "SUBCOMMANDS", "setup", "EXIT STATUS", "ENVIRONMENT", "PGPASSWORD"] {
        assert!(answer.text.contains(part), "{part}");
    }
    assert_eq!(answer.document, json!({"page": answer.text}));
}

#[test]
fn every_command_has_a_page_that_man_can_be_asked_for() {
    let (pages, mut commands) = (written(), vec!["tributary".to_owned()]);
    below(&Cli::command(), "tributary", &mut commands);
    assert!(commands.contains(&"tributary inspect log".to_owned()), "{commands:?}");
    assert_eq!(pages.len(), commands.len(), "{:?}", pages.keys());
    for words in commands {
        let name = words.replace(' ', "-");
        let page = pages.get(&name).unwrap_or_else(|| panic!("{words} has no page"));
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        assert!(page.contains(&format!("\\fB{words}\\fR")), "not what is typed: {page}");
    }
}

#[test]
fn no_page_names_one_that_is_not_written() {
    let pages = written();
    let mut named = 0;
    for (name, page) in &pages {
        for other in page.split_whitespace().filter_map(|word| word.strip_suffix("(1)")) {
            assert!(pages.contains_key(other), "{name}(1) names {other}(1)");
            named += 1;
        }
    }
    assert_eq!(named, pages.len() - 1, "each is named once, by the page above it");
}
