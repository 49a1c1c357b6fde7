use super::*;

fn check(catalog: &TypeCatalog, oid: u32, type_modifier: i32, codec: Codec, type_name: &str) {
    let resolved = catalog.resolve(Oid(oid), type_modifier);
    assert_eq!(resolved.codec, codec, "{type_name}");
    assert_eq!(resolved.type_name, type_name);
    assert_eq!(resolved.lake, codec.lake());
    assert_eq!(resolved.has_binary_decoder, codec.has_binary_decoder());
}

fn check_built_in(oid: u32, type_modifier: i32, codec: Codec, type_name: &str) {
    check(&TypeCatalog::default(), oid, type_modifier, codec, type_name);
}

fn array(codec: Codec) -> Codec {
    Codec::Array(Box::new(codec))
}

fn numeric_of(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7FF)) + 4
}

fn facts(oid: u32, name: &str, kind: TypeKind) -> TypeFacts {
    TypeFacts { oid: Oid(oid), schema: "public".to_owned(), name: name.to_owned(), kind }
}

#[test]
fn built_in_types() {
    check_built_in(16, -1, Codec::Bool, "bool");
    check_built_in(23, -1, Codec::Int4, "int4");
    check_built_in(25, -1, Codec::Text, "text");
    check_built_in(28, -1, Codec::Oid, "xid");
    check_built_in(1043, 24, Codec::Text, "varchar(20)");
    check_built_in(1043, -1, Codec::Text, "varchar");
    check_built_in(1042, 14, Codec::Text, "char(10)");
    check_built_in(1184, 3, Codec::Timestamptz, "timestamptz(3)");
    check_built_in(1184, -1, Codec::Timestamptz, "timestamptz");
    check_built_in(18, -1, Codec::Other, "\"char\"");
    check_built_in(1186, -1, Codec::Other, "interval");
    check_built_in(5069, -1, Codec::Other, "xid8");
}

#[test]
fn the_table_names_each_oid_once() {
    let mut oids: Vec<u32> = BUILT_IN.iter().flat_map(|row| [row.oid, row.array_oid]).collect();
    oids.sort_unstable();
    let count = oids.len();
    oids.dedup();
    assert_eq!(oids.len(), count);
    assert!(oids.iter().all(|oid| (1..FIRST_NORMAL_OID).contains(oid)));
}

#[test]
fn t91_numeric_modifiers() {
    let decimal = |precision, scale| Codec::Decimal { precision, scale };
    check_built_in(1700, numeric_of(10, 2), decimal(10, 2), "numeric(10,2)");
    check_built_in(1700, numeric_of(38, 38), decimal(38, 38), "numeric(38,38)");
    check_built_in(1700, numeric_of(38, 0), decimal(38, 0), "numeric(38,0)");
    check_built_in(1700, numeric_of(39, 0), Codec::NumericText, "numeric(39,0)");
    check_built_in(1700, -1, Codec::NumericText, "numeric");
    // As PostgreSQL 15 stores numeric(5,-2).
    assert_eq!(numeric_of(5, -2), 329_730);
    check_built_in(1700, 329_730, decimal(7, 0), "numeric(5,-2)");
    check_built_in(1700, numeric_of(36, -2), decimal(38, 0), "numeric(36,-2)");
    check_built_in(1700, numeric_of(36, -3), Codec::NumericText, "numeric(36,-3)");
    check_built_in(1700, numeric_of(3, 5), decimal(5, 5), "numeric(3,5)");
    check_built_in(1700, numeric_of(3, 39), Codec::NumericText, "numeric(3,39)");
    check_built_in(1700, numeric_of(1000, -1000), Codec::NumericText, "numeric(1000,-1000)");
    check_built_in(1700, numeric_of(1, 1000), Codec::NumericText, "numeric(1,1000)");
    check_built_in(1231, numeric_of(10, 2), array(decimal(10, 2)), "numeric(10,2)[]");
}

#[test]
fn no_oid_or_modifier_is_too_strange() {
    let catalog = TypeCatalog::default();
    for oid in (0..7000).chain([16383, 16384, u32::MAX]) {
        for type_modifier in [i32::MIN, -2, -1, 0, 3, 4, 5, i32::MAX] {
            let resolved = catalog.resolve(Oid(oid), type_modifier);
            assert_eq!(resolved.lake, resolved.codec.lake());
        }
    }
    check_built_in(70_000, -1, Codec::Other, "type 70000");
}

#[test]
fn t95_arrays() {
    check_built_in(1007, -1, array(Codec::Int4), "int4[]");
    check_built_in(1187, -1, array(Codec::Other), "interval[]");
    // Its elements are separated by semicolons.
    check_built_in(1020, -1, Codec::Other, "box[]");
    assert!(!array(Codec::Other).has_binary_decoder());
    assert!(array(Codec::Date).has_binary_decoder());
}

#[test]
fn t43_domains_bring_their_own_modifier() {
    let mut catalog = TypeCatalog::default();
    let price = Oid(20_001);
    assert_eq!(catalog.missing(price), Some(price));
    let domain = |base, type_modifier| TypeKind::Domain { base: Oid(base), type_modifier };
    catalog.learn(facts(20_002, "net_price", domain(20_001, -1)));
    assert_eq!(catalog.missing(Oid(20_002)), Some(price));
    assert!(!catalog.knows(Oid(20_002)));
    catalog.learn(facts(20_001, "price", domain(1700, numeric_of(10, 2))));
    assert!(catalog.knows(Oid(20_002)));
    check(&catalog, 20_002, -1, Codec::Decimal { precision: 10, scale: 2 }, "public.net_price");

    catalog.learn(facts(20_003, "_price", TypeKind::Array { element: price }));
    check(&catalog, 20_003, -1, array(Codec::Decimal { precision: 10, scale: 2 }), "public.price[]");
    catalog.learn(facts(20_004, "numbers", domain(1007, -1)));
    check(&catalog, 20_004, -1, array(Codec::Int4), "public.numbers");
    catalog.learn(facts(20_005, "_numbers", TypeKind::Array { element: Oid(20_004) }));
    check(&catalog, 20_005, -1, array(Codec::Other), "public.numbers[]");
}

#[test]
fn t96_learnt_types() {
    let mut catalog = TypeCatalog::default();
    catalog.learn(facts(20_001, "mood", TypeKind::Enum));
    catalog.learn(facts(20_002, "_mood", TypeKind::Array { element: Oid(20_001) }));
    catalog.learn(facts(20_003, "citext", TypeKind::Base));
    catalog.learn(facts(20_004, "geometry", TypeKind::Base));
    catalog.learn(facts(20_005, "_geometry", TypeKind::Array { element: Oid(20_004) }));
    catalog.learn(facts(20_006, "pair", TypeKind::Composite));
    catalog.learn(facts(20_007, "_pair", TypeKind::Array { element: Oid(20_006) }));
    catalog.learn(facts(20_008, "_citext", TypeKind::Array { element: Oid(20_003) }));
    check(&catalog, 20_001, -1, Codec::Enum, "public.mood");
    check(&catalog, 20_002, -1, array(Codec::Enum), "public.mood[]");
    check(&catalog, 20_003, -1, Codec::Text, "public.citext");
    check(&catalog, 20_004, -1, Codec::Other, "public.geometry");
    // Its elements are separated by colons.
    check(&catalog, 20_005, -1, Codec::Other, "public.geometry[]");
    check(&catalog, 20_007, -1, array(Codec::Other), "public.pair[]");
    check(&catalog, 20_008, -1, array(Codec::Text), "public.citext[]");
}

#[test]
fn types_that_refer_to_each_other_end() {
    let mut catalog = TypeCatalog::default();
    catalog.learn(facts(20_001, "a", TypeKind::Domain { base: Oid(20_002), type_modifier: -1 }));
    catalog.learn(facts(20_002, "b", TypeKind::Array { element: Oid(20_001) }));
    assert_eq!(catalog.missing(Oid(20_001)), None);
    assert_eq!(catalog.resolve(Oid(20_001), -1).codec, Codec::Other);
    assert_eq!(catalog.resolve(Oid(20_002), -1).codec, Codec::Other);
}
