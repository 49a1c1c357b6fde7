use std::ffi::OsString;

use super::*;
use crate::config::Config;
use crate::status::State;

/// A socket to be told at, and what it is called.
fn listener(folder: &tempfile::TempDir) -> (UnixDatagram, OsString) {
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (socket, path.into_os_string())
}

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn a_path_and_an_abstract_name_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, path) = listener(&folder);
    Supervisor::at(&path, None).unwrap().ended("two\nlines");
    assert_eq!(heard(&socket), "STATUS=two lines\n");

    let name = format!("tributary-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let address = OsString::from(format!("@{name}"));
    Supervisor::at(&address, None).unwrap().ended("why");
    assert_eq!(heard(&socket), "STATUS=why\n");
}

#[test]
fn the_watchdog_is_ours_or_nobodys() {
    let variables = |pid: Option<&str>, micros: &str| {
        let (pid, micros) = (pid.map(str::to_owned), micros.to_owned());
        watchdog(move |name| if name == "WATCHDOG_PID" { pid.clone() } else { Some(micros.clone()) }, 17)
    };
    assert_eq!(variables(None, "2000000"), Some(Duration::from_secs(2)));
    assert_eq!(variables(Some("17"), "2000000"), Some(Duration::from_secs(2)));
    assert_eq!(variables(Some("18"), "2000000"), None);
    assert_eq!(variables(None, "0"), None);
    assert_eq!(variables(None, "soon"), None);
}

#[test]
fn what_was_said_is_not_said_again() {
    let brief = |state| Brief { state, ..Brief::default() };
    let now = |ready, stopping, beat, state| Now {
        ready,
        stopping,
        beat: Duration::from_secs(beat),
        brief: brief(state),
    };
    let news = News::new(true);
    let (message, news) = news.since(now(false, false, 1, State::Starting));
    assert_eq!(message, "WATCHDOG=1\nSTATUS=starting\n");
    // No beat, no message: what systemd waits for in vain is what ends a loop that is stuck.
    let (message, news) = news.since(now(false, false, 1, State::Starting));
    assert_eq!(message, "");
    let (message, news) = news.since(now(true, false, 2, State::Streaming));
    assert_eq!(message, "READY=1\nWATCHDOG=1\nSTATUS=streaming; published up to 0/0\n");
    let (message, news) = news.since(now(true, false, 3, State::Streaming));
    assert_eq!(message, "WATCHDOG=1\n");
    let (message, _) = news.since(now(true, true, 3, State::Stopping));
    assert_eq!(message, "STOPPING=1\nSTATUS=stopping; published up to 0/0\n");
}

#[tokio::test]
async fn a_loop_that_stands_still_is_not_said_to_live() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, path) = listener(&folder);
    let supervisor = Supervisor::at(&path, Some(Duration::from_millis(400))).unwrap();
    let shared = Shared::new(&Config::default());
    let (stop, told) = watch::channel(false);
    let following = tokio::spawn(supervisor.follow(Arc::clone(&shared), told));
    let listen = move || {
        let mut lines = String::new();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            lines.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        (socket, lines)
    };
    shared.pulse().during(tokio::time::sleep(Duration::from_millis(1200))).await;
    let (socket, lines) = tokio::task::spawn_blocking(listen).await.unwrap();
    assert!(lines.matches("WATCHDOG=1").count() >= 2, "{lines}");
    // Nothing beats any more, although the task that tells runs.
    stop.send_replace(true);
    let said = tokio::task::spawn_blocking(move || heard(&socket)).await.unwrap();
    assert_eq!(said, "STOPPING=1\n");
    following.abort();
}
