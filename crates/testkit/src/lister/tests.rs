use super::*;

fn pause() {
    // Longer than the lister's interval.
    mpsc::channel::<()>().1.recv_timeout(INTERVAL * 4).ok();
}

fn with_lister(act: impl FnOnce(&Path)) -> Result<Seen> {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("public/t/data/cdc_date=2026-08-01");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("a.parquet"), b"PAR1...PAR1").unwrap();
    let lister = Lister::start(Place::Directory(folder.path().to_path_buf())).unwrap();
    pause();
    act(&data);
    pause();
    lister.finish()
}

#[test]
fn a_growing_lake_is_fine() {
    let seen = with_lister(|data| {
        fs::write(data.join(".b.parquet.tmp"), b"PAR1").unwrap();
        fs::write(data.join(".b.parquet.tmp"), b"PAR1..PAR1").unwrap();
        fs::rename(data.join(".b.parquet.tmp"), data.join("b.parquet")).unwrap();
    })
    .unwrap();
    assert_eq!(seen.files, 2);
    assert!(seen.listings > 2);
}

#[test]
fn a_file_that_changes_disappears_or_is_incomplete_is_found() {
    let expect = |word: &str, act: fn(&Path)| {
        let error = format!("{:#}", with_lister(act).unwrap_err());
        assert!(error.contains(word), "{error}");
    };
    expect("disappeared", |data| fs::remove_file(data.join("a.parquet")).unwrap());
    expect("changed", |data| fs::write(data.join("a.parquet"), b"PAR1....PAR1").unwrap());
    expect("complete", |data| fs::write(data.join("b.parquet"), b"PAR1....").unwrap());
}
