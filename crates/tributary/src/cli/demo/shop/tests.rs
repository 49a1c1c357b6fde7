use super::*;

#[test]
fn three_parents_share_the_leaves_that_were_asked_for() {
    for leaves in [3, 10, 250, 1000, 5000] {
        let shop = Shop::new(leaves);
        // The plain table is its own leaf.
        assert_eq!(shop.leaf_count(), leaves + 1, "{leaves} leaves");
        let created: usize = shop.ddl().iter().map(|(_, leaves)| leaves).sum();
        assert_eq!(created, leaves + 1);
    }
}

#[test]
fn leaf_names_are_unique() {
    let shop = Shop::new(1000);
    let names: std::collections::HashSet<&str> =
        shop.tables.iter().flat_map(|table| &table.leaves).map(|leaf| leaf.name.as_str()).collect();
    assert_eq!(names.len(), shop.leaf_count());
}

#[test]
fn some_leaves_have_another_column_order() {
    let sql: String = Shop::new(100).ddl().into_iter().map(|(sql, _)| sql).collect();
    assert!(sql.contains("attach partition shop.orders_t00001 for values in (1)"));
    assert!(sql.contains("(gone integer, signature bytea"));
    assert!(sql.contains("create table shop.orders_t00002 partition of shop.orders for values in (2)"));
}

#[test]
fn months_are_bounded_by_the_next_one() {
    assert_eq!(month_bounds(0), "from ('2000-01-01') to ('2000-02-01')");
    assert_eq!(month_bounds(11), "from ('2000-12-01') to ('2001-01-01')");
}

#[test]
fn keys_end_with_the_id_and_name_columns() {
    for table in Shop::new(3).tables {
        assert_eq!(table.spec.key.last(), Some(&"id"));
        for key in table.spec.key {
            assert!(table.spec.columns.iter().any(|column| column.name == *key), "{key}");
        }
    }
}
