use super::*;

#[test]
fn replies_are_read_whole_and_in_chunks() {
    let plain = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    assert_eq!((plain.status, plain.text().as_str()), (200, "hi"));
    let chunked = parse(
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\n ho\r\n0\r\n\r\n",
    )
    .unwrap();
    assert_eq!((chunked.status, chunked.text().as_str()), (404, "hi ho"));
    assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi").is_err());
}
