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

const BASE: TypeKind = TypeKind::Base { delimiter: b',', is_sent: true };

/// T97: each of them is what it is.
#[test]
fn built_in_types() {
    check_built_in(16, -1, Codec::Bool, "bool");
    check_built_in(23, -1, Codec::Int4, "int4");
    check_built_in(25, -1, Codec::Text, "text");
    check_built_in(28, -1, Codec::Oid, "xid");
    check_built_in(1043, 24, Codec::Text, "varchar(20)");
    check_built_in(1043, -1, Codec::Text, "varchar");
    check_built_in(1042, 14, Codec::Bpchar, "char(10)");
    check_built_in(1184, 3, Codec::Timestamptz, "timestamptz(3)");
    check_built_in(1184, -1, Codec::Timestamptz, "timestamptz");
    check_built_in(18, -1, Codec::Char, "\"char\"");
    check_built_in(1186, -1, Codec::Interval, "interval");
    check_built_in(1186, 0x7FFF_0003, Codec::Interval, "interval(3)");
    check_built_in(1186, 0x0400_FFFF, Codec::Interval, "interval");
    check_built_in(5069, -1, Codec::Xid8, "xid8");
    check_built_in(1560, 3, Codec::Bit, "bit(3)");
    check_built_in(1560, -1, Codec::Varbit, "bit");
    check_built_in(3904, -1, Codec::Range(Box::new(Codec::Int4)), "int4range");
    check_built_in(4535, -1, Codec::Multirange(Box::new(Codec::Date)), "datemultirange");
    check_built_in(3927, -1, array(Codec::Range(Box::new(Codec::Int8))), "int8range[]");
    check_built_in(6157, -1, array(Codec::Multirange(Box::new(Codec::Int8))), "int8multirange[]");
}

#[test]
fn the_table_names_each_oid_once() {
    let mut oids: Vec<u32> = BUILT_IN.iter().flat_map(|row| [row.oid, row.array_oid]).collect();
    oids.extend(
        RANGES
            .iter()
            .flat_map(|range| [range.oid, range.array_oid, range.multirange_oid, range.multirange_array_oid]),
    );
    oids.sort_unstable();
    let count = oids.len();
    oids.dedup();
    assert_eq!(oids.len(), count);
    assert!(oids.iter().all(|oid| (1..FIRST_NORMAL_OID).contains(oid)));
}

/// T91
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

/// T95
#[test]
fn t95_arrays() {
    check_built_in(1007, -1, array(Codec::Int4), "int4[]");
    check_built_in(1187, -1, array(Codec::Interval), "interval[]");
    // Its elements are separated by semicolons.
    check_built_in(1020, -1, array(Codec::Box), "box[]");
    assert_eq!((Codec::Box.delimiter(), Codec::Point.delimiter()), (b';', b','));
    // An array cannot be sent whose elements cannot.
    check_built_in(1034, -1, array(Codec::Unsent), "aclitem[]");
    assert!(Codec::Unsent.has_binary_decoder() && !array(Codec::Unsent).has_binary_decoder());
    assert!(!array(Codec::Other).has_binary_decoder());
    assert!(array(Codec::Date).has_binary_decoder());
}

/// T43
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
    let text = Codec::As { form: Form::String, of: Box::new(array(Codec::Int4)) };
    check(&catalog, 20_005, -1, array(text), "public.numbers[]");
}

/// T96
#[test]
fn t96_learnt_types() {
    let mut catalog = TypeCatalog::default();
    let colons = TypeKind::Base { delimiter: b':', is_sent: true };
    catalog.learn(facts(20_001, "mood", TypeKind::Enum));
    catalog.learn(facts(20_002, "_mood", TypeKind::Array { element: Oid(20_001) }));
    catalog.learn(facts(20_003, "citext", BASE));
    catalog.learn(facts(20_004, "geometry", colons.clone()));
    catalog.learn(facts(20_005, "_geometry", TypeKind::Array { element: Oid(20_004) }));
    catalog.learn(facts(20_008, "_citext", TypeKind::Array { element: Oid(20_003) }));
    catalog.learn(facts(20_009, "raster", colons));
    catalog.learn(facts(20_010, "_raster", TypeKind::Array { element: Oid(20_009) }));
    catalog.learn(facts(20_011, "isbn", TypeKind::Base { delimiter: b',', is_sent: false }));
    check(&catalog, 20_001, -1, Codec::Enum, "public.mood");
    check(&catalog, 20_002, -1, array(Codec::Enum), "public.mood[]");
    check(&catalog, 20_003, -1, Codec::Text, "public.citext");
    check(&catalog, 20_004, -1, Codec::Geometry { srid: 0 }, "public.geometry");
    // `geometry(Point,4326)`
    check(&catalog, 20_004, 1_107_460, Codec::Geometry { srid: 4326 }, "public.geometry");
    check(&catalog, 20_005, -1, array(Codec::Geometry { srid: 0 }), "public.geometry[]");
    check(&catalog, 20_008, -1, array(Codec::Text), "public.citext[]");
    // Its elements are separated by colons, and so nothing we know.
    check(&catalog, 20_010, -1, Codec::Other, "public.raster[]");
    check(&catalog, 20_011, -1, Codec::Unsent, "public.isbn");
}

fn attribute(name: &str, oid: u32) -> Attribute {
    Attribute { name: name.to_owned(), type_oid: Oid(oid), type_modifier: -1 }
}

/// T96
#[test]
fn t96_row_types_and_ranges() {
    let mut catalog = TypeCatalog::default();
    let attributes = vec![attribute("a", 23), attribute("A", 20_001), attribute("b c", 20_003)];
    catalog.learn(facts(20_006, "pair", TypeKind::Composite { attributes }));
    assert!(catalog.missing(Oid(20_006)).is_some());
    catalog.learn(facts(20_001, "mood", TypeKind::Enum));
    assert_eq!(catalog.missing(Oid(20_006)), Some(Oid(20_003)));
    catalog.learn(facts(20_003, "moodrange", TypeKind::Range { bound: Oid(20_001) }));
    catalog.learn(facts(20_004, "moodmultirange", TypeKind::Multirange { range: Oid(20_003) }));
    catalog.learn(facts(20_007, "_pair", TypeKind::Array { element: Oid(20_006) }));
    let range = Codec::Range(Box::new(Codec::Enum));
    let Codec::Record(fields) = catalog.resolve(Oid(20_006), -1).codec else { panic!("no row type") };
    assert_eq!(
        fields.iter().map(|field| &field.codec).collect::<Vec<_>>(),
        [&Codec::Int4, &Codec::Enum, &range]
    );
    // Lake names are unique ignoring case.
    assert_eq!(fields[0].name, "a");
    assert!(fields[1].name.starts_with("a_") && fields[2].name.starts_with("b_c_"));
    check(&catalog, 20_004, -1, Codec::Multirange(Box::new(Codec::Enum)), "public.moodmultirange");
    check(&catalog, 20_007, -1, array(Codec::Record(fields)), "public.pair[]");
}

fn ruled(profile: Profile, types: &[(&str, &str)], columns: &[(&str, &str)]) -> TypeCatalog {
    TypeCatalog::new(TypeRules::new(profile, types.iter().copied(), columns.iter().copied()).unwrap())
}

#[test]
fn the_native_profile() {
    let catalog = ruled(Profile::Native, &[], &[]);
    let lake = |oid: u32| catalog.resolve(Oid(oid), -1).lake;
    assert_eq!((lake(2950), lake(1083), lake(3802)), (LakeType::Uuid, LakeType::Time, LakeType::Json));
    assert_eq!(lake(2951), LakeType::List(Box::new(LakeType::Uuid)));
    assert_eq!((lake(25), lake(1114)), (LakeType::Utf8, LakeType::Timestamp));
    assert_eq!(catalog.resolve(Oid(2950), -1).chosen_by, ChosenBy::Profile);
    let catalog = ruled(Profile::Native, &[("uuid", "string")], &[]);
    assert_eq!(catalog.resolve(Oid(2950), -1).codec, Codec::Uuid);
}

#[test]
fn forms_of_types() {
    let types = [
        ("numeric", "decimal(38,9)"),
        ("arrays", "json"),
        ("int4[]", "list"),
        ("ranges", "struct"),
        ("bpchar", "trim"),
    ];
    let catalog = ruled(Profile::Portable, &types, &[]);
    let resolve = |oid: u32, modifier: i32| catalog.resolve(Oid(oid), modifier);
    assert_eq!(resolve(1700, -1).codec, Codec::Decimal { precision: 38, scale: 9 });
    assert_eq!(resolve(1700, -1).chosen_by, ChosenBy::Override("numeric".to_owned()));
    // One that has a decimal of its own keeps it.
    assert_eq!(resolve(1700, numeric_of(10, 2)).codec, Codec::Decimal { precision: 10, scale: 2 });
    assert_eq!(resolve(1009, -1).lake, LakeType::Utf8);
    assert_eq!(resolve(1007, -1).codec, array(Codec::Int4));
    assert!(matches!(resolve(3912, -1).lake, LakeType::Struct(_)));
    assert_eq!(resolve(1042, 14).codec, Codec::As { form: Form::Trim, of: Box::new(Codec::Bpchar) });
    let catalog = ruled(Profile::Portable, &[("decimal", "double")], &[]);
    assert_eq!(catalog.resolve(Oid(1700), numeric_of(10, 2)).lake, LakeType::Float64);
}

#[test]
fn forms_of_types_of_the_database() {
    let mut catalog = ruled(
        Profile::Portable,
        &[("public.price", "double"), ("hstore", "json"), ("public.mood", "struct")],
        &[],
    );
    let domain = TypeKind::Domain { base: Oid(1700), type_modifier: numeric_of(10, 2) };
    catalog.learn(facts(20_001, "price", domain));
    catalog.learn(TypeFacts { schema: "ext".to_owned(), ..facts(20_002, "hstore", BASE) });
    catalog.learn(facts(20_003, "mood", TypeKind::Enum));
    assert_eq!(catalog.resolve(Oid(20_001), -1).lake, LakeType::Float64);
    assert_eq!(catalog.resolve(Oid(20_002), -1).lake, LakeType::Utf8);
    let mood = catalog.resolve(Oid(20_003), -1);
    let misfit = mood.misfit.unwrap();
    assert_eq!((mood.codec, misfit.form), (Codec::Enum, Form::Struct));
    assert_eq!(misfit.valid, ["string"]);
    assert_eq!(misfit.rule, ChosenBy::Override("public.mood".to_owned()));
    assert!(catalog.rules().need_catalogs());
    // Only an extension's type goes by its bare name.
    let mut catalog = ruled(Profile::Portable, &[("numeric", "double"), ("arrays", "json")], &[]);
    catalog.learn(facts(20_001, "numeric", TypeKind::Enum));
    assert_eq!(catalog.resolve(Oid(20_001), -1).misfit, None);
}

#[test]
fn forms_of_columns() {
    let columns =
        [("*.*.price", "double"), ("public.orders.price", "string"), ("public.o*.*e", "decimal(20,3)")];
    let catalog = ruled(Profile::Portable, &[("numeric", "decimal(38,9)")], &columns);
    let lake = |tables: &[(&str, &str)], column: &str| {
        catalog.resolve_column(tables.iter().copied(), column, Oid(1700), -1).lake
    };
    assert_eq!(lake(&[("public", "orders")], "price"), LakeType::Utf8);
    assert_eq!(lake(&[("public", "others")], "price"), LakeType::Decimal { precision: 20, scale: 3 });
    assert_eq!(lake(&[("shop", "orders")], "price"), LakeType::Float64);
    assert_eq!(lake(&[("shop", "orders")], "cost"), LakeType::Decimal { precision: 38, scale: 9 });
    // The name that the table has in the lake counts before the one that it has now (T28).
    assert_eq!(lake(&[("public", "orders"), ("shop", "orders")], "price"), LakeType::Utf8);
    let text = catalog.resolve_column([("shop", "orders")], "price", Oid(25), -1);
    assert_eq!(text.codec, Codec::Text);
    assert_eq!(text.misfit.unwrap().rule, ChosenBy::Column("*.*.price".to_owned()));
    // A form that arrays have not is for their elements.
    let catalog = ruled(Profile::Portable, &[], &[("public.t.ids", "native")]);
    let ids = catalog.resolve_column([("public", "t")], "ids", Oid(2951), -1);
    assert_eq!(ids.lake, LakeType::List(Box::new(LakeType::Uuid)));
}

#[test]
fn rules_that_cannot_be_meant() {
    let error = |key: &str, form: &str| TypeRules::new(Profile::Portable, [(key, form)], []).unwrap_err();
    assert_eq!(error("numeric", "time").valid, ["string", "double", "decimal(38,9)"]);
    assert_eq!(error("uuid", "nativ").valid, ["string", "binary", "native"]);
    assert!(error("numerc", "double").what.starts_with("there is no built-in type `numerc`"));
    assert_eq!(error("xid8", "decimal(10,0)").valid, ["string", "decimal(20,0)"]);
    assert_eq!(error("numeric", "decimal(39,0)").what, "no form is called `decimal(39,0)`");
    assert_eq!(error("point", "json").valid, ["string", "struct"]);
    let column = TypeRules::new(Profile::Portable, [], [("orders.price", "double")]).unwrap_err();
    assert!(column.what.contains("too few dots"));
}

#[test]
fn every_form_reads_what_it_prints() {
    for form in Form::all() {
        assert_eq!(form.to_string().parse(), Ok(form));
    }
    assert_eq!("text".parse(), Ok(Form::String));
    for bad in ["", "decimal", "decimal(0,0)", "decimal(5,6)", "decimal(39,1)", "decimal(5)", "String"] {
        assert_eq!(bad.parse::<Form>(), Err(UnknownForm), "{bad}");
    }
}

#[test]
fn what_may_be_lost() {
    let losses = |oid: u32| TypeCatalog::default().resolve(Oid(oid), -1).codec.losses();
    assert_eq!(losses(25), []);
    assert_eq!(losses(1082), [Loss::OutOfRange, Loss::Infinity]);
    assert_eq!(losses(1007), [Loss::NestedArray, Loss::LowerBound]);
}

#[test]
fn a_row_type_that_doubles_on_every_level_ends() {
    let mut catalog = TypeCatalog::default();
    for level in 0..40 {
        let attributes = vec![attribute("a", 20_001 + level), attribute("b", 20_001 + level)];
        catalog.learn(facts(20_000 + level, &format!("t{level}"), TypeKind::Composite { attributes }));
    }
    catalog.learn(facts(20_040, "t40", TypeKind::Enum));
    assert!(catalog.knows(Oid(20_000)));
    assert!(matches!(catalog.resolve(Oid(20_000), -1).codec, Codec::Record(_)));
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
