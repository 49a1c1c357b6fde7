mod placing;
mod scale;
mod script;
mod streams;

use std::path::Path;

/// Every file in `scripts`: a script, `---`, and what it prints. `UPDATE_GOLDEN=1` writes what it prints now.
#[test]
fn scripts() {
    goldens("scripts");
}

/// The same with what real servers of the oldest and the newest version sent (`recorded/record.py`), a trap or two each.
#[test]
fn recorded() {
    goldens("recorded");
}

fn goldens(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fold").join(folder);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 25, "{} scripts", files.len());
    let mut differing = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let (script, expected) = text.split_once("\n---\n").unwrap();
        let printed = script::run(script);
        if printed == expected {
            continue;
        }
        if update {
            std::fs::write(file, format!("{script}\n---\n{printed}")).unwrap();
        } else {
            let file = file.file_name().unwrap().display();
            differing.push(format!("== {file}\n-- expected\n{expected}-- printed\n{printed}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
