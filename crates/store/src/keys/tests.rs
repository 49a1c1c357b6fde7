//! Owns: examples of accepted and refused keys.
//! Does not: touch a store.
//! Holds: nothing.
//! Fails: never.

use super::{check_key, check_prefix};

#[test]
fn keys_stay_inside_the_lake() {
    for key in ["a", "public/orders/data/cdc_date=2026-08-01/0.parquet", "_tributary/log/1.json", "a/..b/.c"]
    {
        assert!(check_key("get", key).is_ok(), "{key}");
    }
    let long = "x".repeat(1025);
    for key in ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\0b", "a/..\\b", &long] {
        assert!(check_key("get", key).is_err(), "{key:?}");
    }
}

#[test]
fn prefixes_may_end_anywhere() {
    for prefix in ["", "a", "a/", "a/b", "_tributary/log/000", "a/.."] {
        assert!(check_prefix("list", prefix).is_ok(), "{prefix}");
    }
    for prefix in ["/", "/a", "../", "a/../b", "a//", "\0"] {
        assert!(check_prefix("list", prefix).is_err(), "{prefix:?}");
    }
}
