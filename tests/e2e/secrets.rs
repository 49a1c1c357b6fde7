//! What nobody may find: passwords, keys and rows, in anything that the daemon says.
//!
//! Owns: secrets that are easily recognized, in every place where the daemon is given one, and a search of all that comes out.
//! Does not: look at memory, or at what is sent to the server and the store.
//! Holds: every command is run at the most talkative level, in both forms, and fails in every way that has to do with secrets.
//! Fails: with the place where a secret was found.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testkit::daemon::{Lake, Settings};
use testkit::postgres::DATABASE;
use testkit::wait::{pause, seconds};
use testkit::{Cluster, Pipeline, Stage, scenario};

use crate::rig::{self, Kind, LakeRig};

const IN_URL: &str = "canaryOfTheUrl";
const IN_FILE: &str = "canaryOfTheFile";
const IN_ENVIRONMENT: &str = "canaryOfTheEnvironment";
const SECRET_KEY: &str = "canaryOfTheSecretKey";
const SESSION_TOKEN: &str = "canaryOfTheSessionToken";
const PASSPHRASE: &str = "canaryOfThePassphrase";
/// In cells of a key, of a toasted column, and of a value that its lake type cannot hold.
const ROW: &str = "canaryOfTheRow";

const SECRETS: [&str; 6] = [IN_URL, IN_FILE, IN_ENVIRONMENT, SECRET_KEY, SESSION_TOKEN, PASSPHRASE];

/// Everything that a person types, but for what changes what comes after it.
const COMMANDS: [&[&str]; 15] = [
    &["setup"],
    &["check"],
    &["run", "--until", "now"],
    &["status"],
    &["inspect"],
    &["inspect", "log"],
    &["inspect", "types"],
    &["inspect", "--lsn", "0/1"],
    &["fsck", "--deep"],
    &["fsck", "--repair"],
    &["repair"],
    &["sql", "--engine", "duckdb"],
    &["resync", "public.secrets"],
    &["adopt", "public.secrets", "public.orders"],
    &["--help"],
];

#[test]
fn no_secret_is_in_anything_that_is_said_of_a_lake_in_a_directory() -> Result<()> {
    scenario(seconds(300), async |stage| say_everything(stage, Kind::Directory).await)
}

#[test]
fn no_secret_is_in_anything_that_is_said_of_a_lake_in_s3() -> Result<()> {
    scenario(seconds(300), async |stage| say_everything(stage, Kind::S3).await)
}

async fn say_everything(stage: &Stage, kind: Kind) -> Result<()> {
    let mut cluster = rig::cluster(stage, 18, false, &["log_min_messages = log"]).await?;
    prepare(&mut cluster).await?;
    let lake = LakeRig::new(stage, kind).await?;
    let file = stage.path("password");
    std::fs::write(&file, format!("{IN_FILE}\n"))?;
    let of =
        |user: &str, more: &str| format!("postgresql://{user}@127.0.0.1:{}/{DATABASE}?{more}", cluster.port);
    let mut settings = Settings::new(of("by_file", ""), lake.lake.clone());
    settings.snapshot = "initial";
    settings.before = vec!["public.secrets".to_owned()];
    settings.env = vec![
        ("AWS_SECRET_ACCESS_KEY".to_owned(), SECRET_KEY.to_owned()),
        ("AWS_SESSION_TOKEN".to_owned(), SESSION_TOKEN.to_owned()),
        ("TRIBUTARY_SOURCE__PASSWORD_FILE".to_owned(), file.display().to_string()),
    ];
    let by_file = Pipeline::new(stage, "by-file", settings)?;
    let without_file = |settings: &mut Settings| {
        settings.env.retain(|(name, _)| name != "TRIBUTARY_SOURCE__PASSWORD_FILE");
    };
    let by_url = by_file.variant(stage, "by-url", |settings| {
        without_file(settings);
        settings.source = of(&format!("by_url:{IN_URL}"), "");
    })?;
    let by_environment = by_file.variant(stage, "by-environment", |settings| {
        without_file(settings);
        settings.source = of("by_environment", "");
        settings.env.push(("PGPASSWORD".to_owned(), IN_ENVIRONMENT.to_owned()));
    })?;

    by_file.run(&["setup", "--apply", "--log", "trace"]).await?.success()?;
    talk(stage, &by_file, &cluster).await?;
    for pipeline in [&by_file, &by_url, &by_environment] {
        for arguments in COMMANDS {
            for json in [&[] as &[&str], &["--json"]] {
                pipeline.run(&[arguments, json, &["--log", "trace"]].concat()).await?;
            }
        }
    }
    for pipeline in failing(stage, &by_file, &cluster)? {
        for arguments in [&["run", "--until", "now"][..], &["check"], &["inspect", "types"]] {
            let outcome = pipeline.run(&[arguments, &["--log", "trace"]].concat()).await?;
            ensure!(outcome.code != 0, "{arguments:?}: {}", outcome.text());
        }
    }
    unreadable(stage, &by_file).await?;
    by_file.run(&["teardown", "--yes", "--log", "trace"]).await?;

    let said = search(stage.folder(), &is_said)?;
    stage.say(format!("{said} files were searched"));
    ensure!(said > 100, "only {said} files");
    if let Lake::Directory(folder) = &lake.lake {
        refuse(folder, &SECRETS)?;
    }
    Ok(())
}

/// Roles for each way to give a password, and rows.
async fn prepare(cluster: &mut Cluster) -> Result<()> {
    for (role, password) in [("by_file", IN_FILE), ("by_url", IN_URL), ("by_environment", IN_ENVIRONMENT)] {
        cluster
            .execute(&format!("create role {role} login superuser replication password '{password}'"))
            .await?;
    }
    cluster
        .execute(&format!(
            "create table secrets (id text primary key, doc text, at date, n numeric(5,2));
             alter table secrets alter doc set storage external;
             alter publication tributary add table secrets;
             insert into secrets select '{ROW}' || g, repeat('{ROW}', 500), 'infinity', 'NaN' from generate_series(1, 50) g"
        ))
        .await?;
    cluster.authenticate("host all,replication by_file,by_url,by_environment 127.0.0.1/32 scram-sha-256")?;
    cluster.restart(testkit::postgres::Stop::Fast).await
}

/// A daemon under load, whose pages are read, and which loses its server for a moment.
async fn talk(stage: &Stage, pipeline: &Pipeline, cluster: &Cluster) -> Result<()> {
    let talkative = pipeline.variant(stage, "talkative", |settings| {
        settings.env.push(("RUST_LOG".to_owned(), "trace".to_owned()));
    })?;
    let mut daemon = talkative.start_streaming().await?;
    for turn in 0..3 {
        cluster
            .execute(&format!(
                "update secrets set n = {turn}; update secrets set id = id || 'x' where id like '%{turn}';
                 delete from secrets where id like '%2{turn}%';
                 select pg_terminate_backend(pid) from pg_stat_activity where usename = 'by_file' and {turn} = 1"
            ))
            .await?;
        pause(seconds(1)).await;
    }
    daemon.wait_until_published(cluster.wal_lsn().await?, seconds(60)).await?;
    for (number, path) in
        ["/", "/metrics", "/status.json", "/healthz", "/readyz", "/nothing"].iter().enumerate()
    {
        let reply = daemon.get(path).await?;
        std::fs::write(talkative.folder.join(format!("page-{number}.out")), reply.body)?;
    }
    daemon.stop().await
}

/// The same pipeline, in ways that cannot work.
fn failing(stage: &Stage, of: &Pipeline, cluster: &Cluster) -> Result<Vec<Pipeline>> {
    let host = format!("127.0.0.1:{}/{DATABASE}", cluster.port);
    let sources = [
        // Wrong passwords, which are secrets as well: somebody mistyped the right one.
        format!("postgresql://by_url:{IN_URL}x@{host}"),
        format!("postgresql://by_url:{IN_URL}@{host}_that_is_not_there"),
        format!("postgresql://by_url:{IN_URL}@{host}?sslmode=require"),
        format!("postgresql://by_url:{IN_URL}@{host}?require_auth=md5"),
        format!("postgresql://by_url:{IN_URL}@{host}?channel_binding=require"),
        format!("postgresql://by_url@{host}?password={IN_URL}&what=1"),
        format!("postgresql://by_url@{host}?sslpassword={PASSPHRASE}"),
        // Not escaped.
        format!("postgresql://by_url:{IN_URL}/x@{host}"),
        format!("postgresql://by_url:x/{IN_URL}@{host}"),
        format!("postgresql://by_url:x?{IN_URL}@{host}"),
        format!("postgresql://by_url:x#{IN_URL}@{host}"),
        format!("postgresql://by_url:x%{IN_URL}@{host}"),
        format!("postgresql:/by_url:{IN_URL}@{host}"),
    ];
    let mut pipelines = Vec::new();
    for (number, source) in sources.into_iter().enumerate() {
        pipelines.push(of.variant(stage, &format!("failing-{number}"), |settings| {
            settings.env.retain(|(name, _)| name != "TRIBUTARY_SOURCE__PASSWORD_FILE");
            settings.source = source;
        })?);
    }
    // Two passwords; and a file with more than one.
    pipelines.push(of.variant(stage, "two-passwords", |settings| {
        settings.source = format!("postgresql://by_file:{IN_URL}@{host}");
    })?);
    let lines = stage.path("two-lines");
    std::fs::write(&lines, format!("{IN_FILE}\n{IN_FILE}\n"))?;
    pipelines.push(of.variant(stage, "two-lines-of-a-file", |settings| {
        settings.env.push(("TRIBUTARY_SOURCE__PASSWORD_FILE".to_owned(), lines.display().to_string()));
    })?);
    Ok(pipelines)
}

/// Configurations that cannot be read, with a secret where it is wrong.
async fn unreadable(stage: &Stage, of: &Pipeline) -> Result<()> {
    let texts = [
        format!("[source]\nurl = \"postgresql://x:{IN_URL}@h/d\nslot = \"s\"\n"),
        format!("[source]\npassword = \"{IN_FILE}\"\n"),
        format!("[source]\nurl = {IN_URL}\n"),
        format!("[source]\nurl = [\"postgresql://x:{IN_URL}@h/d\"]\n"),
        format!("[lake.s3]\nsecret_access_key = \"{SECRET_KEY}\"\n"),
        format!("[source]\nurl = \"postgresql://x:{IN_URL}@h/d\"\nslot = 7\n"),
        format!(
            "[source]\nurl = \"postgresql://x:{IN_URL}@h/d\"\n[lake]\nurl = \"s3://b\"\n[lake.s3]\nendpoint = \"https://k:{SECRET_KEY}@h\"\n"
        ),
    ];
    for (number, text) in texts.into_iter().enumerate() {
        let pipeline = of.variant(stage, &format!("unreadable-{number}"), |settings| {
            settings.env.retain(|(name, _)| !name.starts_with("TRIBUTARY"));
        })?;
        std::fs::write(pipeline.config(), text)?;
        let outcome = pipeline.run(&["run", "--until", "now", "--log", "trace"]).await?;
        ensure!(outcome.code != 0, "{}", outcome.text());
    }
    Ok(())
}

/// What our program has printed or answered, and no configuration.
fn is_said(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "out" || kind == "err")
}

/// Looks for secrets and rows in all files below that are meant; returns how many there were.
fn search(folder: &Path, is_meant: &dyn Fn(&Path) -> bool) -> Result<usize> {
    let mut wanted = SECRETS.to_vec();
    wanted.push(ROW);
    let mut searched = 0;
    for path in files(folder)? {
        if is_meant(&path) {
            refuse_file(&path, &wanted)?;
            searched += 1;
        }
    }
    Ok(searched)
}

fn refuse(folder: &Path, wanted: &[&str]) -> Result<()> {
    for path in files(folder)? {
        refuse_file(&path, wanted)?;
    }
    Ok(())
}

fn refuse_file(path: &Path, wanted: &[&str]) -> Result<()> {
    let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    for secret in wanted {
        // As hexadecimal digits it is no better hidden.
        for form in [(*secret).to_owned(), hexadecimal(secret)] {
            let line = text.lines().find(|line| line.contains(&form));
            ensure!(
                line.is_none(),
                "{secret} is in {}: {}",
                path.display(),
                shortened(line.unwrap_or_default())
            );
        }
    }
    Ok(())
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn shortened(line: &str) -> String {
    line.chars().take(600).collect()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            // The server's own files hold its passwords and rows.
            if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pg-")) {
                found.extend(files(&path)?);
            }
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
