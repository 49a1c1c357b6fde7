//! What Kustomize makes of `deploy/kubernetes`.
//!
//! Owns: rendering every overlay, the schemas of Kubernetes, and what a schema does not know.
//! Does not: have a cluster.
//! Holds: one pod a pipeline, never two; no root, no write to its root, no privilege; a grace longer than a stop takes. What sets up is
//! what runs afterwards, but for the command.
//! Fails: with the object and the field.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::wait::seconds;
use testkit::{Stage, place, process, scenario};

/// The oldest and the newest that are promised: 1.28 has the label of a pod's index.
const VERSIONS: [&str; 3] = ["1.28", "1.32", "1.36"];
/// A stop publishes for 20 s at most.
const STOP_SECONDS: i64 = 20;
/// How the name of an overlay ends that sets up what another one runs.
const SETUP: &str = "-setup";

#[test]
fn every_overlay_renders_and_is_valid() -> Result<()> {
    scenario(seconds(120), async |stage| {
        let folder = place::repository()?.join("deploy/kubernetes");
        let mut overlays: Vec<PathBuf> =
            fs::read_dir(folder.join("overlays"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        overlays.sort();
        ensure!(overlays.len() >= 3, "{overlays:?}");
        for overlay in overlays {
            let rendered = render(stage, &overlay).await?;
            for version in VERSIONS {
                valid(stage, &rendered, version).await.with_context(|| overlay.display().to_string())?;
            }
            let objects = objects(stage, &rendered).await?;
            for object in &objects {
                is_as_promised(object)
                    .with_context(|| format!("{}: {}", overlay.display(), name_of(object)))?;
            }
            let sets_up = overlay.to_string_lossy().ends_with(SETUP);
            let found = (kinds(&objects, "StatefulSet").len(), kinds(&objects, "Job").len());
            let wanted = if sets_up { (0, 1) } else { (1, 0) };
            ensure!(found == wanted, "{}: {found:?} StatefulSets and Jobs", overlay.display());
            stage.say(format!("{}: {} objects", overlay.display(), objects.len()));
        }
        Ok(())
    })
}

/// Of the pipelines of an overlay, and with everything that its daemon has: `tributary setup` reads and writes as that does.
#[test]
fn the_job_that_sets_up_is_the_daemon_with_another_command() -> Result<()> {
    scenario(seconds(60), async |stage| {
        let overlays = place::repository()?.join("deploy/kubernetes/overlays");
        for name in ["one", "many"] {
            let daemon = objects(stage, &render(stage, &overlays.join(name)).await?).await?;
            let setup =
                objects(stage, &render(stage, &overlays.join(format!("{name}{SETUP}"))).await?).await?;
            let (sets, jobs) = (kinds(&daemon, "StatefulSet"), kinds(&setup, "Job"));
            let (set, job) = (sets.first().context("a StatefulSet")?, jobs.first().context("a Job")?);
            has(job, "/spec/template/spec/containers/0/args", &json!(["setup", "--apply"]))?;
            has(job, "/spec/template/spec/restartPolicy", &json!("Never"))?;
            // The daemon's service and disruption budget do not count it, the network policy does.
            let labels =
                json!({"app.kubernetes.io/name": "tributary", "app.kubernetes.io/component": "setup"});
            has(job, "/spec/template/metadata/labels", &labels)?;
            for kind in ["Service", "PodDisruptionBudget"] {
                let chosen = kinds(&daemon, kind).first().context(kind)?.to_string();
                ensure!(chosen.contains("\"app.kubernetes.io/component\":\"daemon\""), "{chosen}");
            }
            ensure!(pod_of(set, "PIPELINE")? == pod_of(job, "PIPELINE")?, "{name}: {set} and {job}");
            let pipelines = set.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
            let pods = job.pointer("/spec/completions").and_then(Value::as_u64).unwrap_or(1);
            ensure!(pipelines == pods, "{name}: {pipelines} pipelines, of which {pods} are set up");
            if pods > 1 {
                has(job, "/spec/completionMode", &json!("Indexed"))?;
                let index = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
                ensure!(job.to_string().contains(index), "no pod of {job} knows its number");
            }
            // Everything else is the same, so that one may be applied behind the other.
            let others = |objects: &[Value]| -> Vec<Value> {
                let is_other =
                    |object: &&Value| !matches!(object["kind"].as_str(), Some("StatefulSet" | "Job"));
                objects.iter().filter(is_other).cloned().collect()
            };
            ensure!(others(&daemon) == others(&setup), "{name}: what is beside the pods differs");
        }
        Ok(())
    })
}

/// A pod without what a command and its end need, and without where it has its own number from.
fn pod_of(object: &Value, number: &str) -> Result<Value> {
    let mut pod = object.pointer("/spec/template/spec").context("a pod")?.clone();
    pod.as_object_mut().context("fields")?.remove("restartPolicy");
    let container = pod.pointer_mut("/containers/0").and_then(Value::as_object_mut).context("a container")?;
    for only_one_has in ["args", "ports", "startupProbe", "livenessProbe", "readinessProbe"] {
        container.remove(only_one_has);
    }
    for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if variable.get("name").and_then(Value::as_str) == Some(number) {
            variable.as_object_mut().context("fields")?.remove("valueFrom");
        }
    }
    Ok(pod)
}

/// Every component is in some overlay, or nobody would notice that it does not work.
#[test]
fn every_component_is_used() -> Result<()> {
    let folder = place::repository()?.join("deploy/kubernetes");
    let mut used = String::new();
    for overlay in fs::read_dir(folder.join("overlays"))? {
        used += &fs::read_to_string(overlay?.path().join("kustomization.yaml"))?;
    }
    for component in fs::read_dir(folder.join("components"))? {
        let name = component?.file_name();
        let line = format!("- ../../components/{}\n", name.to_string_lossy());
        ensure!(used.contains(&line), "no overlay uses {}", name.display());
    }
    Ok(())
}

#[test]
fn a_wrong_object_is_found() -> Result<()> {
    scenario(seconds(60), async |stage| {
        let file = stage.path("wrong.yaml");
        fs::write(&file, "apiVersion: v1\nkind: Service\nmetadata: {name: wrong}\nspec: {port: 1}\n")?;
        ensure!(valid(stage, &file, VERSIONS[0]).await.is_err(), "an unknown field passes");
        Ok(())
    })
}

/// Every pipeline's configuration is one that the daemon reads, with a slot and a lake of its own.
#[test]
fn many_pipelines_have_a_file_each() -> Result<()> {
    scenario(seconds(60), async |stage| {
        let overlay = place::repository()?.join("deploy/kubernetes/overlays/many");
        let objects = objects(stage, &render(stage, &overlay).await?).await?;
        let sets = kinds(&objects, "StatefulSet");
        let set = sets.first().context("a StatefulSet")?;
        let count = set.pointer("/spec/replicas").and_then(Value::as_u64).context("replicas")?;
        let maps = kinds(&objects, "ConfigMap");
        let files = maps.first().and_then(|map| map.get("data")?.as_object()).context("a ConfigMap")?;
        let wanted: Vec<String> = (0..count).map(|index| format!("{index}.toml")).collect();
        ensure!(files.keys().eq(wanted.iter()), "{count} pods, and the files {:?}", files.keys());
        let folder = fs::read_dir(overlay.join("configs"))?.count();
        ensure!(folder == files.len(), "{folder} configurations, of which {} are used", files.len());
        let mut owned = std::collections::BTreeSet::new();
        for (name, text) in files {
            let text: toml::Table = toml::from_str(text.as_str().context("text")?).context(name.clone())?;
            let at = |section: &str, key: &str| Some(text.get(section)?.get(key)?.as_str()?.to_owned());
            for key in [at("source", "slot"), at("lake", "url")] {
                let key = key.with_context(|| format!("{name} lacks slot or lake"))?;
                ensure!(owned.insert(key.clone()), "{key} belongs to two pipelines");
            }
        }
        // A variable can only be used by those behind it.
        let env =
            set.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).context("env")?;
        let place = |name: &str| {
            env.iter().position(|variable| variable.get("name").and_then(Value::as_str) == Some(name))
        };
        ensure!(place("PIPELINE").is_some() && place("PIPELINE") < place("TRIBUTARY_CONFIG"), "{env:?}");
        Ok(())
    })
}

/// The rules of Prometheus are those of deploy/prometheus, word by word.
#[test]
fn the_operators_rules_are_prometheus_rules() -> Result<()> {
    let deploy = place::repository()?.join("deploy");
    let rules = deploy.join("prometheus/tributary.rules.yaml");
    let component = deploy.join("kubernetes/components/monitoring");
    let target = component.join("prometheus-rule.yaml");
    if !rules.exists() {
        ensure!(!target.exists(), "{} has no source", target.display());
        return Ok(());
    }
    let mut wanted = String::from(
        "# From deploy/prometheus/tributary.rules.yaml: `UPDATE_GOLDEN=1 make e2e ONLY=operators_rules` writes it anew.\n\
         apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: tributary\nspec:\n",
    );
    for line in fs::read_to_string(&rules)?.lines().filter(|line| !line.starts_with('#')) {
        if line.is_empty() {
            wanted.push('\n');
        } else {
            wanted += &format!("  {line}\n");
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&target, &wanted)?;
    }
    let found = fs::read_to_string(&target).unwrap_or_default();
    ensure!(found == wanted, "{} is not {}: UPDATE_GOLDEN=1 writes it", target.display(), rules.display());
    let listed = fs::read_to_string(component.join("kustomization.yaml"))?;
    ensure!(
        listed.contains("- prometheus-rule.yaml\n"),
        "prometheus-rule.yaml is no resource of the component"
    );
    Ok(())
}

async fn render(stage: &Stage, overlay: &Path) -> Result<PathBuf> {
    let mut kubectl = Command::new(place::deploy("kubectl")?);
    kubectl.arg("kustomize").arg(overlay);
    let rendered = process::run("kustomize", kubectl, stage.folder(), seconds(30)).await?.success()?;
    ensure!(rendered.stderr.is_empty(), "{}", rendered.stderr);
    let file = stage.path(&format!("{}.yaml", overlay.file_name().context("a name")?.to_string_lossy()));
    fs::write(&file, rendered.stdout)?;
    Ok(file)
}

async fn valid(stage: &Stage, file: &Path, version: &str) -> Result<()> {
    let mut validate = Command::new(place::deploy("kubernetes-validate")?);
    validate.args(["--strict", "--kubernetes-version", version]).arg(file);
    let outcome = process::run("validate", validate, stage.folder(), seconds(60)).await?;
    ensure!(outcome.code == 0, "Kubernetes {version}: {}", outcome.text());
    // Of what Kubernetes does not define it has no schema: `is_as_promised` knows the operator's fields.
    let unknown = outcome
        .text()
        .lines()
        .find(|line| line.contains("find schema") && !line.contains("monitoring.coreos.com"))
        .map(str::to_owned);
    ensure!(unknown.is_none(), "{unknown:?}");
    Ok(())
}

async fn objects(stage: &Stage, file: &Path) -> Result<Vec<Value>> {
    super::image::yaml(stage, file).await
}

fn kinds<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object.get("kind").and_then(Value::as_str) == Some(kind)).collect()
}

fn name_of(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

fn is_as_promised(object: &Value) -> Result<()> {
    match object.get("kind").and_then(Value::as_str).context("kind")? {
        "StatefulSet" => pod(object).and_then(|()| is_watched(object)),
        "Job" => pod(object),
        "ServiceMonitor" => {
            only_keys(object, "/spec", &["selector", "endpoints", "namespaceSelector"])?;
            for (index, _) in object
                .pointer("/spec/endpoints")
                .and_then(Value::as_array)
                .context("endpoints")?
                .iter()
                .enumerate()
            {
                only_keys(
                    object,
                    &format!("/spec/endpoints/{index}"),
                    &["port", "path", "interval", "scrapeTimeout"],
                )?;
            }
            has(object, "/spec/selector/matchLabels", &json!({"app.kubernetes.io/name": "tributary"}))
        }
        "PrometheusRule" => {
            only_keys(object, "/spec", &["groups"])?;
            let rules = object.pointer("/spec/groups/0/rules").and_then(Value::as_array).context("rules")?;
            ensure!(!rules.is_empty(), "no rules");
            for (index, _) in rules.iter().enumerate() {
                only_keys(
                    object,
                    &format!("/spec/groups/0/rules/{index}"),
                    &["alert", "record", "expr", "for", "labels", "annotations"],
                )?;
            }
            Ok(())
        }
        "ServiceAccount" => has(object, "/automountServiceAccountToken", &json!(false)),
        "Service" | "ConfigMap" | "PodDisruptionBudget" | "NetworkPolicy" => Ok(()),
        other => bail!("nobody says what a {other} is for"),
    }
}

fn pod(set: &Value) -> Result<()> {
    let pod = "/spec/template/spec";
    let grace =
        set.pointer(&format!("{pod}/terminationGracePeriodSeconds")).and_then(Value::as_i64).unwrap_or(30);
    ensure!(grace >= STOP_SECONDS * 2, "a grace of {grace} s");
    has(set, &format!("{pod}/securityContext/runAsNonRoot"), &json!(true))?;
    has(set, &format!("{pod}/securityContext/seccompProfile/type"), &json!("RuntimeDefault"))?;
    has(set, &format!("{pod}/automountServiceAccountToken"), &json!(false))?;
    let container = format!("{pod}/containers/0");
    ensure!(set.pointer(&format!("{pod}/containers/1")).is_none(), "a second container");
    let own = format!("{container}/securityContext");
    has(
        set,
        &own,
        &json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}),
    )?;
    ensure!(set.pointer(&format!("{container}/resources/limits/memory")).is_some(), "no limit of memory");
    // Secrets are files, and in no variable.
    ensure!(!set.to_string().contains("secretKeyRef"), "a secret is in the environment");
    let volumes = set.pointer(&format!("{pod}/volumes")).and_then(Value::as_array).context("volumes")?;
    let secrets: Vec<&Value> = volumes.iter().filter_map(|volume| volume.get("secret")).collect();
    ensure!(!secrets.is_empty(), "no file has a secret");
    for secret in secrets {
        has(secret, "/defaultMode", &json!(0o440))?;
    }
    let image = set.pointer(&format!("{container}/image")).and_then(Value::as_str).context("image")?;
    // All crates have one version.
    let version = env!("CARGO_PKG_VERSION");
    ensure!(image.ends_with(&format!(":{version}")), "{image} is not {version}");
    Ok(())
}

fn is_watched(set: &Value) -> Result<()> {
    let container = "/spec/template/spec/containers/0";
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        has(set, &format!("{container}/{probe}/httpGet"), &json!({"path": path, "port": "http"}))?;
    }
    Ok(())
}

fn has(object: &Value, path: &str, wanted: &Value) -> Result<()> {
    let found = object.pointer(path);
    ensure!(found == Some(wanted), "{path} is {found:?}, and not {wanted}");
    Ok(())
}

fn only_keys(object: &Value, path: &str, known: &[&str]) -> Result<()> {
    let found = object.pointer(path).and_then(Value::as_object).with_context(|| format!("no {path}"))?;
    let unknown: Vec<&String> = found.keys().filter(|key| !known.contains(&key.as_str())).collect();
    ensure!(unknown.is_empty(), "{path} has {unknown:?}");
    Ok(())
}
