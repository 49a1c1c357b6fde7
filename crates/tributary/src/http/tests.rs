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
    let body = request(address, path).await.expect("the server answers")?;
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
