//! docs/configuration.md, made of config/tributary.toml and the keys themselves.

use super::{DOCUMENTED, keys};

/// `UPDATE_GOLDEN=1` writes what comes out now.
#[test]
fn the_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let found = reference();
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(path, &found).expect("written");
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == found,
        "docs/configuration.md is not what config/tributary.toml says; UPDATE_GOLDEN=1 writes it"
    );
    for key in keys() {
        assert!(found.contains(&format!("`{key}`")), "no heading has {key}");
    }
}

fn reference() -> String {
    let mut out = String::from(HEAD);
    let mut section = String::new();
    for block in DOCUMENTED.split("\n\n").skip(1) {
        let mut words = Vec::new();
        let mut code = Vec::new();
        let mut found = Vec::new();
        let mut in_example = false;
        for line in block.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
                // What stands before a section is about all of it.
                out.push_str(&format!("\n## `[{name}]`\n"));
                if !words.is_empty() {
                    out.push_str(&format!("\n{}\n", words.join("\n")));
                    words.clear();
                }
                continue;
            }
            let (text, is_comment) = match line.strip_prefix("# ") {
                Some(text) => (text, true),
                None => (line, false),
            };
            // An example of a list of tables goes on up to the next sentence.
            in_example = in_example && text.contains(" = ") || text.starts_with("[[");
            let key = text.split_once(" = ").map(|(name, _)| format!("{section}.{name}"));
            let is_key = key.as_ref().is_some_and(|key| keys().contains(key)) && !in_example;
            if is_key || in_example || !is_comment || is_quoted_pair(text) {
                code.push((text, is_comment));
                found.extend(key.filter(|_| is_key));
                if in_example && text.starts_with("[[") {
                    found.push(text.trim_matches(['[', ']']).to_owned());
                }
            } else {
                words.push(text);
            }
        }
        found.dedup();
        out.push_str(&entry(&section, &found, &words, &code));
    }
    out
}

fn entry(section: &str, found: &[String], words: &[&str], code: &[(&str, bool)]) -> String {
    if words.is_empty() && code.is_empty() {
        return String::new();
    }
    // A section whose keys are anybody's: types.override.
    let names = if found.is_empty() { vec![section.to_owned()] } else { found.to_vec() };
    let headings: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let has_default = code.iter().any(|(_, is_comment)| !is_comment);
    let variables: Vec<String> =
        names.iter().map(|name| format!("`TRIBUTARY_{}`", name.to_uppercase().replace('.', "__"))).collect();
    let kind = if has_default { "Default" } else { "No default; for example" };
    let lines: Vec<&str> = code.iter().map(|(line, _)| *line).collect();
    // A list of tables cannot be written into one variable.
    let is_list = lines.first().is_some_and(|line| line.starts_with("[["));
    let from_environment =
        if is_list { String::new() } else { format!("In the environment: {}. ", variables.join(", ")) };
    let words = if words.is_empty() { String::new() } else { format!("{}\n\n", words.join("\n")) };
    format!(
        "\n### {}\n\n{words}{from_environment}{kind}:\n\n```toml\n{}\n```\n",
        headings.join(", "),
        lines.join("\n")
    )
}

/// `"public.price" = "double"`, of a section whose keys are anybody's.
fn is_quoted_pair(text: &str) -> bool {
    let pair = text.split_once(" = ");
    pair.is_some_and(|(name, value)| (name.starts_with('"') || name == "numeric") && value.starts_with('"'))
}

const HEAD: &str = "# Configuration

Made of [config/tributary.toml](../config/tributary.toml) by a test; change that file, and run `UPDATE_GOLDEN=1 cargo test -p tributary the_reference_is_current`.

The file is found by `--config PATH`; without it `./tributary.toml`, then `/etc/tributary/tributary.toml`, then none. Any key can come from
the environment instead, which wins over the file; two underscores stand between section and key, and a list is written with commas.
A key that does not exist is refused, with its line and the nearest one that does.
";
