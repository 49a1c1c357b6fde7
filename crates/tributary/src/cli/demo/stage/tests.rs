use super::*;

#[tokio::test]
async fn a_directory_in_use_is_refused_and_an_empty_one_is_emptied_again() {
    let parent = tempfile::tempdir().unwrap();
    let given = parent.path().join("given");
    fs::create_dir(&given).unwrap();
    let mut stage = Stage::open(Some(&given)).await.unwrap();
    fs::write(given.join("left.txt"), "").unwrap();
    assert!(Stage::open(Some(&given)).await.is_err());
    stage.clear(true).await;
    assert!(given.exists() && fs::read_dir(&given).unwrap().next().is_none());
}

#[tokio::test]
async fn a_directory_of_its_own_is_removed_with_it() {
    let parent = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(Some(&parent.path().join("a/b"))).await.unwrap();
    let home = stage.home().to_path_buf();
    assert!(home.is_dir());
    stage.clear(true).await;
    assert!(!home.exists());
}

#[tokio::test]
async fn the_watcher_removes_and_ends_what_a_killed_demo_leaves() {
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("with a space");
    fs::create_dir(&home).unwrap();
    let mut sleeper =
        super::super::children::spawn(super::super::children::command("sleep").arg("600")).unwrap();
    let mut watcher = Watcher::start().unwrap();
    watcher.remove(&home).await.unwrap();
    watcher.guard(&sleeper, Signal::Terminate).await.unwrap();
    // As if the demo were killed: the watcher's input ends without a word.
    drop(watcher);
    let limit = std::time::Duration::from_secs(10);
    assert!(super::super::children::wait(&mut sleeper, limit).await.is_some());
    for _ in 0..100 {
        if !home.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the directory is still there");
}

#[test]
fn paths_in_the_script_are_quoted() {
    let script = stop_script(Path::new("/tmp/it's here"), Path::new("/tmp/data"), None, 42);
    assert!(script.contains("rm -rf -- '/tmp/it'\\''s here'"), "{script}");
    assert!(script.contains("head -n 1 /tmp/data/postmaster.pid"), "{script}");
    assert!(script.contains("kill -s TERM 42"), "{script}");
}
