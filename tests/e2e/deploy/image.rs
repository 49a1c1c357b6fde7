//! The image: what is in it, and that it needs no disk.
//!
//! Owns: a look at Dockerfile and compose file, and a root like the image's, read-only, for another user than root.
//! Does not: pull images, or compile the program once more: buildah builds the last stage of the Dockerfile, on a base of the same files.
//! Holds: nothing is written but to the lake; no library is needed that the image does not have.
//! Fails: with the line concerned, or the end of the daemon's log.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::daemon::Lake;
use testkit::process::{User, command};
use testkit::s3::{ACCESS_KEY, SECRET_KEY, Server};
use testkit::wait::seconds;
use testkit::workload::{Load, Workload};
use testkit::{Stage, place, process, scenario};

use crate::rig;
use crate::snapshot::LEAVES_DIFFER;

/// What distroless/cc has of libraries that a program of ours can need.
const LIBRARIES: [&str; 6] =
    ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1"];

#[test]
fn the_dockerfile_copies_what_is_there_and_ends_without_root() -> Result<()> {
    let repository = place::repository()?;
    let text = fs::read_to_string(repository.join("deploy/docker/Dockerfile"))?;
    let text = text.replace("\\\n", " ");
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| !words.is_empty())
        .collect();
    let ignored = fs::read_to_string(repository.join("deploy/docker/Dockerfile.dockerignore"))?;
    for words in lines.iter().filter(|words| words[0] == "COPY" && !words[1].starts_with("--from=")) {
        for source in &words[1..words.len() - 1] {
            ensure!(repository.join(source).exists(), "{source} does not exist");
            ensure!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is ignored");
        }
    }
    let last =
        |word: &str| lines.iter().rev().find(|words| words[0] == word).map(|words| words[1..].join(" "));
    let user = last("USER").context("no USER")?;
    ensure!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "USER {user}");
    ensure!(last("ENTRYPOINT").as_deref() == Some("[\"/usr/bin/tributary\"]"), "{:?}", last("ENTRYPOINT"));
    // The compiler is the one that is pinned for everybody.
    let toolchain = fs::read_to_string(repository.join("rust-toolchain.toml"))?;
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).context("a channel")?;
    let wanted = format!("ARG RUST=docker.io/library/rust:{}-bookworm", channel.trim_matches('"'));
    ensure!(text.contains(&wanted), "not {wanted}");
    // Every member of the workspace has to be there for cargo.
    let members = fs::read_to_string(repository.join("Cargo.toml"))?;
    let members = members.lines().find_map(|line| line.strip_prefix("members = ")).context("members")?;
    for member in members.trim_matches(['[', ']']).split(", ") {
        let member = member.trim_matches('"').trim_end_matches("/*");
        ensure!(lines.iter().any(|words| words[0] == "COPY" && words[1] == member), "{member} is not copied");
    }
    Ok(())
}

#[test]
fn the_compose_file_names_what_is_there() -> Result<()> {
    scenario(seconds(60), async |stage| {
        let folder = place::repository()?.join("deploy/docker");
        let parsed = yaml(stage, &folder.join("compose.yaml")).await?;
        let services =
            parsed.first().and_then(|file| file.get("services")?.as_object()).context("services")?;
        for (name, service) in services {
            let image = service.get("image").and_then(Value::as_str).context(name.clone())?;
            let tag = image.rsplit_once(':').map(|(_, tag)| tag);
            ensure!(tag.is_some_and(|tag| tag != "latest"), "{name}: {image} is not pinned");
            for volume in service.get("volumes").and_then(Value::as_array).into_iter().flatten() {
                let volume = volume.as_str().context("a short volume")?;
                let source = volume.split(':').next().unwrap_or_default();
                ensure!(folder.join(source).is_file(), "{name}: there is no {source}");
                ensure!(volume.ends_with(":ro"), "{name}: {volume} may be written to");
            }
            for port in service.get("ports").and_then(Value::as_array).into_iter().flatten() {
                ensure!(
                    port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")),
                    "{name}: {port} is open to all"
                );
            }
        }
        let daemon = services.get("tributary").context("tributary")?;
        ensure!(daemon.get("read_only") == Some(&Value::Bool(true)), "its root may be written to");
        let secret = fs::read_to_string(folder.join("try/password"))?;
        let sql = fs::read_to_string(folder.join("try/password.sql"))?;
        ensure!(sql.contains(&format!("PASSWORD '{}'", secret.trim())), "two passwords");
        Ok(())
    })
}

#[test]
fn a_read_only_root_is_enough() -> Result<()> {
    if !place::is_root() {
        eprintln!("SKIP: a root of its own takes root to mount, so nothing is known about a read-only one");
        return Ok(());
    }
    scenario(seconds(150), async |stage| {
        let seed = rig::seed(stage)?;
        let cluster = rig::cluster(stage, 18, false, &[]).await?;
        let server = Server::ministack(stage).await?;
        let lake = Lake::S3 {
            server: server.port,
            daemon: server.port,
            prefix: "shop".to_owned(),
            checksums: "always",
        };
        let pipeline = rig::pipeline(stage, &cluster, lake, |settings| settings.snapshot = "initial").await?;
        let base = base(stage).await?;
        let root = image(stage, &base).await?.unwrap_or(base);
        fs::create_dir_all(root.join("etc/tributary"))?;
        fs::copy(pipeline.config(), root.join("etc/tributary/tributary.toml"))?;
        let mut daemon = pipeline.start_as(read_only(&root))?;
        daemon.wait_until_streaming(seconds(60)).await?;
        let workload = Workload::new(&cluster, Load::new(seed));
        workload.during_seconds(5).await?;
        workload.finish().await?;
        daemon.stop().await?;
        rig::finish(stage, &cluster, &pipeline, &[]).await?;
        pipeline.refuse_unexpected_lines(&[LEAVES_DIFFER])
    })
}

/// What the image has: the libraries of its base, certificates, and the program.
async fn base(stage: &Stage) -> Result<PathBuf> {
    let root = stage.path("root");
    let put = |from: &Path, to: &str| -> Result<()> {
        let target = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a folder")?)?;
        fs::copy(from, target).map(drop).with_context(|| from.display().to_string())
    };
    let program = place::tributary()?;
    put(&program, "usr/bin/tributary")?;
    let mut ldd = Command::new("ldd");
    ldd.arg(&program);
    for line in process::run("ldd", ldd, stage.folder(), seconds(30)).await?.success()?.stdout.lines() {
        let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let name = line.split_whitespace().next().unwrap_or_default();
        ensure!(LIBRARIES.contains(&name) || name.contains("/ld-linux"), "the image has no {name}");
        put(Path::new(library), library)?;
    }
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if certificates.exists() {
        put(certificates, "etc/ssl/certs/ca-certificates.crt")?;
    }
    for folder in ["proc", "dev", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    Ok(root)
}

/// The Dockerfile's image on that base; `None` where there is no buildah.
async fn image(stage: &Stage, base: &Path) -> Result<Option<PathBuf>> {
    if Command::new("buildah").arg("--version").output().is_err() {
        eprintln!("SKIP: there is no buildah, so the image is not built; its root is made of the same files");
        return Ok(None);
    }
    let storage = [stage.path("buildah"), stage.path("buildah-run")];
    let buildah = async |arguments: &[&str]| {
        let mut program = Command::new("buildah");
        program.env("BUILDAH_ISOLATION", "chroot").env("STORAGE_DRIVER", "vfs");
        program.arg("--root").arg(&storage[0]).arg("--runroot").arg(&storage[1]).args(arguments);
        let outcome = process::run("buildah", program, stage.folder(), seconds(120)).await?.success()?;
        Ok::<_, anyhow::Error>(outcome.stdout.trim().to_owned())
    };
    // What the first stage would have compiled.
    let compiled = stage.path("compiled");
    fs::create_dir_all(compiled.join("out"))?;
    fs::rename(base.join("usr/bin/tributary"), compiled.join("out/tributary"))?;
    let scratch = buildah(&["from", "scratch"]).await?;
    buildah(&["copy", "--quiet", &scratch, &base.to_string_lossy(), "/"]).await?;
    buildah(&["commit", "--quiet", &scratch, "localhost/base"]).await?;
    let (context, repository) = (format!("build={}", compiled.display()), place::repository()?);
    let file = repository.join("deploy/docker/Dockerfile");
    let told =
        ["build", "--pull=never", "--quiet", "--build-context", &context, "--build-arg", "RUST=scratch"];
    let told =
        [&told[..], &["--build-arg", "RUNTIME=localhost/base", "--tag", "localhost/tributary", "--file"]]
            .concat();
    buildah(&[&told[..], &[&file.to_string_lossy(), &repository.to_string_lossy()]].concat()).await?;
    let format = "{{.OCIv1.Config.User}} {{.OCIv1.Config.StopSignal}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}";
    let config = buildah(&["inspect", "--type", "image", "--format", format, "localhost/tributary"]).await?;
    ensure!(config == "65532:65532 SIGTERM [/usr/bin/tributary] [run --log-format json]", "{config}");
    let container = buildah(&["from", "--pull-never", "localhost/tributary"]).await?;
    Ok(Some(PathBuf::from(buildah(&["mount", &container]).await?)))
}

/// Runs the image's command there, as its user.
fn read_only(root: &Path) -> Command {
    let script = "mount --bind \"$1\" \"$1\" && mount -t proc -o ro proc \"$1/proc\" && mount --rbind /dev \"$1/dev\" && \
                  mount -o remount,bind,ro \"$1\" && exec chroot --userspec=65532:65532 --groups=65532 \"$1\" /usr/bin/tributary run --log-format json";
    let mut program = command("unshare", User::Own);
    program.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(root);
    program.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    program.env("TRIBUTARY_CONFIG", "/etc/tributary/tributary.toml").env("AWS_EC2_METADATA_DISABLED", "true");
    program.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    program
}

/// The documents of a file.
pub(super) async fn yaml(stage: &Stage, file: &Path) -> Result<Vec<Value>> {
    let mut python = Command::new(place::deploy("python")?);
    python
        .args([
            "-c",
            "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))",
        ])
        .arg(file);
    let parsed = process::run("yaml", python, stage.folder(), seconds(30)).await?.success()?;
    Ok(serde_json::from_str(&parsed.stdout)?)
}
