use super::*;

#[test]
fn a_pattern_stands_for_one_label() {
    for (pattern, host, fits) in [
        ("db.example.com", "DB.example.com", true),
        ("db.example.com", "db.example.com.", true),
        ("*.example.com", "db.example.com", true),
        ("*.example.com", "a.db.example.com", false),
        ("*.example.com", "example.com", false),
        ("*.com", "example.com", false),
        ("d*.example.com", "db.example.com", false),
        ("db.example.com", "db.example.org", false),
        ("127.0.0.1", "127.0.0.1", true),
    ] {
        assert_eq!(matches_pattern(pattern, host), fits, "{pattern} for {host}");
    }
}

#[test]
fn the_first_hash_of_pss_parameters_counts() {
    let sha384 = PSS_HASHES[1].0;
    let sha256 = PSS_HASHES[0].0;
    assert_eq!(pss_hash(&[sha384, sha256].concat()), Some(Hash::Sha384));
    assert_eq!(pss_hash(&[0x30, 0x00]), Some(Hash::Sha256));
}

#[test]
fn what_is_no_certificate_binds_to_nothing() {
    assert_eq!(end_point_of(b""), None);
    assert_eq!(end_point_of(&[0x30, 0x82, 0xff, 0xff, 0x00]), None);
}
