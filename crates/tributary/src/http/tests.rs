use super::*;
use crate::config::Config;
use crate::status;

async fn server() -> (String, Arc<Shared>) {
    let shared = Shared::new(&Config::default());
    let listener = bind("127.0.0.1:0").await.expect("a free port").expect("an address was given");
    let address = listener.local_addr().expect("it listens").to_string();
    tokio::spawn(serve(listener, Arc::clone(&shared)));
    (address, shared)
}

async fn body(address: &str, path: &str) -> Option<String> {
    let body = get_body(address, path).await.expect("the server answers")?;
    Some(String::from_utf8(body).expect("it is text"))
}

#[tokio::test]
async fn every_route_answers() {
    let (address, shared) = server().await;
    assert_eq!(body(&address, "/healthz").await.as_deref(), Some("ok\n"));
    assert_eq!(body(&address, "/readyz").await, None);
    shared.ready(true);
    assert_eq!(body(&address, "/readyz").await.as_deref(), Some("ready\n"));
    assert!(body(&address, "/metrics").await.is_some_and(|text| text.contains("tributary_ready 1")));
    assert_eq!(body(&address, "/elsewhere").await, None);
    shared.table_published("public.<b>", 1, 2, 3);
    let page = body(&address, "/").await.expect("a page");
    assert!(page.contains("public.&lt;b&gt;") && !page.contains("public.<b>"), "{page}");
}

#[test]
fn a_loop_that_stands_still_is_not_well() {
    assert_eq!(health(STUCK / 2).0, StatusCode::OK);
    let (code, why) = health(STUCK * 2);
    assert_eq!((code, why.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "the loop stands still for 240 s\n"));
}

#[tokio::test]
async fn the_page_shows_the_snapshot() {
    let (address, shared) = server().await;
    let page = async || body(&address, "/").await.expect("a page");
    assert!(!page().await.contains("Snapshot"));
    shared.snapshot_begun("public.a", 2, 1_000);
    shared.snapshot_begun("public.<b>", 4, 3_000);
    shared.snapshot_chunk("public.a", 1_234, 5_678);
    shared.snapshot_ended("public.c", 0, Some("permission denied for <c>"));
    let shown = page().await;
    assert!(
        shown.contains("Snapshot <span class=\"chip warn\">running</span> <span class=\"soft\">0 tables read, 2 to go, 1 set aside"),
        "{shown}"
    );
    let row = |name: &str, percent: &str, read: &str, rows: &str, size: &str| {
        format!(
            "<tr><td class=\"name\">{name}</td><td class=\"wide\"><progress max=\"100\" value=\"{percent}\" aria-label=\"{name}\"></progress></td>\
             <td class=\"right\">{read}</td><td class=\"right\" data-name=\"rows\">{rows}</td><td class=\"right\" data-name=\"size\">{size}</td>"
        )
    };
    assert!(shown.contains(&row("all", "12.5", "12.5 %", "1,234", "5.5 KiB")), "{shown}");
    assert!(shown.contains(&row("public.a", "50", "50.0 %", "1,234", "5.5 KiB")), "{shown}");
    assert!(shown.contains(&row("public.&lt;b&gt;", "0", "0.0 %", "0", "0 B")), "{shown}");
    assert!(
        shown.contains("<td class=\"name\">public.c</td><td class=\"wide\" colspan=\"6\"><span class=\"chip warn\">set aside</span> permission denied for &lt;c&gt;"),
        "{shown}"
    );
    // The time that is left, of what was measured just now.
    assert!(shown.contains("data-name=\"left\">0 s</td>"), "{shown}");
    shared.snapshot_ended("public.a", 2_000, None);
    shared.snapshot_ended("public.<b>", 2_000, None);
    let shown = page().await;
    assert!(
        shown.contains("<span class=\"chip warn\">done</span> <span class=\"soft\">2 tables read, 0 to go, 1 set aside</span></h2><table>"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_browser_may_load_nothing_but_the_page() {
    let (address, _shared) = server().await;
    let mut stream = connect(&address).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let policy =
        answer.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
}

#[tokio::test]
async fn the_status_is_read_back_as_it_was_given() {
    let (address, shared) = server().await;
    shared.state(status::State::Streaming);
    assert_eq!(ask_status(&address).await, Some(shared.snapshot()));
    let everywhere = address.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(ask_status(&everywhere).await, Some(shared.snapshot()));
}

#[tokio::test]
async fn a_taken_address_names_its_key() {
    let (address, _shared) = server().await;
    let error = bind(&address).await.expect_err("it is taken");
    assert_eq!(error.kind(), crate::error::Kind::Config);
    assert!(error.to_string().starts_with("`http.listen`: cannot listen on 127.0.0.1:"), "{error}");
    assert!(bind("").await.expect("nothing to do").is_none());
}

#[tokio::test]
async fn nobody_there_is_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it listens").to_string();
    drop(listener);
    assert_eq!(ask_status(&address).await, None);
}

/// A stream that knows one table.
fn listen_for_resyncs(shared: &Shared) -> tokio::task::JoinHandle<()> {
    let mut resyncs = shared.resyncs().expect("nobody else listens");
    assert!(shared.resyncs().is_none(), "only one stream runs");
    tokio::spawn(async move {
        while let Some(Resync { globs, answer }) = resyncs.recv().await {
            let known = globs.iter().any(|glob| glob == "public.orders");
            let said =
                if known { Ok(vec!["public.orders".to_owned()]) } else { Err("no such table".to_owned()) };
            answer.send(said).expect("the request waits");
        }
    })
}

#[tokio::test]
async fn the_stream_is_asked_to_read_tables_anew() {
    let (address, shared) = server().await;
    let ask = async |glob: &str| ask_resync(&address, &[glob.to_owned()]).await.expect("it answers");
    let not_now = ResyncAnswer::Refused(409, "the daemon does not stream at the moment".to_owned());
    assert_eq!(ask("public.orders").await, not_now);
    let stream = listen_for_resyncs(&shared);
    assert_eq!(ask("public.orders").await, not_now, "it is not ready");
    shared.ready(true);
    assert_eq!(ask("public.orders").await, ResyncAnswer::Accepted(vec!["public.orders".to_owned()]));
    assert_eq!(ask("public.other").await, ResyncAnswer::Refused(404, "no such table".to_owned()));
    assert!(matches!(ask("orders").await, ResyncAnswer::Refused(400, why) if why.contains("orders")));
    stream.abort();
    assert!(stream.await.is_err());
    assert_eq!(ask("public.orders").await, not_now);
    // The next stream listens again.
    listen_for_resyncs(&shared);
    assert_eq!(ask("public.orders").await, ResyncAnswer::Accepted(vec!["public.orders".to_owned()]));
}

#[tokio::test]
async fn pages_in_a_browser_change_nothing() {
    let (address, shared) = server().await;
    shared.ready(true);
    listen_for_resyncs(&shared);
    let body = "{\"tables\":[\"public.orders\"]}";
    let status = async |headers: &str| {
        let text = format!("POST /resync HTTP/1.0\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        request(&address, &text).await.expect("it answers").map(|(status, _)| status)
    };
    let json = "Content-Type: application/json\r\n";
    assert_eq!(status(&format!("Host: 127.0.0.1:9187\r\n{json}")).await, Some(200));
    assert_eq!(status(&format!("Host: [::1]\r\n{json}")).await, Some(200));
    assert_eq!(status("Host: localhost\r\nContent-Type: text/plain\r\n").await, Some(415));
    assert_eq!(status("Host: localhost\r\n").await, Some(415));
    assert_eq!(status(&format!("Host: evil.example\r\n{json}")).await, Some(403));
    assert_eq!(status(json).await, Some(403));
    assert_eq!(
        status(&format!("Host: localhost\r\nOrigin: http://localhost:9187\r\n{json}")).await,
        Some(403)
    );
}
