mod reference;

use super::*;

const DOCUMENTED: &str = include_str!("../../../../config/tributary.toml");
const MINIMAL: &str = include_str!("../../../../config/minimal.toml");
const REQUIRED: &str = "[source]\nurl = \"postgresql://cdc@db/shop\"\n[lake]\nurl = \"s3://bucket/prefix\"\n";

fn parse(text: &str) -> Result<Config> {
    Config::parse("t.toml", text)
}

fn with(rest: &str) -> Result<Config> {
    parse(&format!("{REQUIRED}{rest}"))
}

#[track_caller]
fn refuses(text: &str, message: &str, hint: &str) {
    let error = parse(text).expect_err("it has to be refused");
    assert_eq!(error.kind(), crate::error::Kind::Config);
    assert_eq!((error.chain().as_str(), error.hint_text().unwrap_or_default()), (message, hint));
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn with_environment(text: &str, variables: &[(&str, &str)]) -> Result<Config> {
    Config::from_parts(Some(("t.toml", text)), &environment(variables))
}

#[test]
fn the_documented_file_is_the_default() {
    let layers =
        Layers::read(Some(("tributary.toml", DOCUMENTED)), &Environment::default()).expect("it parses");
    assert_eq!(layers.deserialize().expect("it is valid"), Config::default());
}

#[test]
fn the_documented_file_mentions_every_key_in_its_section() {
    let mut section = String::new();
    let mut mentioned = Vec::new();
    for line in DOCUMENTED.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']).to_owned();
            // A list of tables, or a table of pairs, is a key itself.
            mentioned.push(section.clone());
        }
        if let Some((key, _)) = line.split_once(" = ") {
            mentioned.push(format!("{section}.{key}"));
            // `[[partitions.pattern]]` stands between other keys of its section, behind `#`.
            mentioned.push(format!("{}.{key}", section.trim_end_matches(".pattern")));
        }
    }
    let keys = keys();
    assert!(keys.len() > 20, "{keys:?}");
    for key in &keys {
        assert!(mentioned.contains(key), "config/tributary.toml does not mention {key}");
    }
    let sections: Vec<&str> =
        keys.iter().filter_map(|key| key.rsplit_once('.')).map(|(section, _)| section).collect();
    for section in sections {
        assert!(DOCUMENTED.contains(&format!("\n[{section}]\n")), "config/tributary.toml has no [{section}]");
    }
}

#[test]
fn the_minimal_file_is_valid() {
    let config = Config::parse("minimal.toml", MINIMAL).expect("it is valid");
    assert_eq!(config.cut.interval, Duration::from_secs(60));
    assert_eq!(config.memory.budget.as_usize(), 512 << 20);
    let location = Location::S3 { bucket: "bucket".to_owned(), prefix: "prefix".to_owned() };
    assert_eq!(config.lake.location().expect("it is one"), location);
    assert!(config.warnings().is_empty());
}

#[test]
fn an_unknown_key_is_placed_and_the_nearest_one_named() {
    refuses(
        "[source]\nslott = \"a\"\n",
        "t.toml:2:1: there is no key `slott` in [source]",
        "did you mean `slot`?",
    );
    refuses(
        "[source]\n[lake]\n  [lake.s3]\n  regoin = \"a\"\n",
        "t.toml:4:3: there is no key `regoin` in [lake.s3]",
        "did you mean `region`?",
    );
    refuses("[sorce]\nslot = \"a\"\n", "t.toml:1:2: there is no section `sorce`", "did you mean `source`?");
    refuses(
        "[lake]\nbudget = \"1GiB\"\n",
        "t.toml:2:1: there is no key `budget` in [lake]",
        "`budget` is a key of [memory]",
    );
    refuses(
        "[cut]\nzzz = 1\n",
        "t.toml:2:1: there is no key `zzz` in [cut]",
        "there are: interval, file_size",
    );
    refuses(
        "lake.s3.pathstyle = true",
        "t.toml:1:9: there is no key `pathstyle` in [lake.s3]",
        "did you mean `path_style`?",
    );
}

#[test]
fn a_wrong_value_is_placed() {
    refuses(
        "[source]\nformat = \"txt\"",
        "t.toml:2:10: `source.format` cannot be `txt`",
        "did you mean `text`? It is one of auto, binary, text",
    );
    refuses(
        "[source]\nslot = 3",
        "t.toml:2:8: `source.slot`: this is an integer, and a string is wanted",
        "",
    );
    refuses("source = 3", "t.toml:1:10: `source`: this is an integer, and a table is wanted", "");
    refuses(
        "[source]\npublication = [\"a\", 3]",
        "t.toml:2:21: `source.publication`: this is an integer, and a string is wanted",
        "",
    );
    refuses(
        "[cut]\ninterval = 60",
        "t.toml:2:12: `cut.interval`: a duration is a text with a unit: \"500ms\", \"60s\", \"5m\", \"1h\"",
        "",
    );
    refuses(
        "[memory]\nbudget = \"1 gig\"",
        "t.toml:2:10: `memory.budget`: `1 gig`: a size is a text with a unit: \"128MiB\", \"1GiB\", \"512KiB\"",
        "",
    );
}

#[test]
fn a_text_that_is_not_toml_is_placed() {
    let error = parse("[source]\nslot = \n").expect_err("no value");
    assert!(error.to_string().starts_with("t.toml:2:8: this is not TOML: "), "{error}");
    let error = parse("[source]\nslot = \"a\"\nslot = \"b\"").expect_err("twice");
    assert!(error.to_string().starts_with("t.toml:3:1: this is not TOML: duplicate key"), "{error}");
}

#[test]
fn what_types_cannot_forbid_is_placed() {
    refuses(
        "",
        "t.toml: `source.url` is not set",
        "source.url = \"postgresql://role@host:5432/database?sslmode=verify-full\"; or set TRIBUTARY_SOURCE__URL",
    );
    let cases = [
        ("[cut]\ninterval = \"1ms\"", "t.toml:6:12: `cut.interval` is not between 100ms and 24h"),
        (
            "[memory]\nbudget = \"1MiB\"",
            "t.toml:6:10: `memory.budget` is 1MiB, and not between 32MiB and 1TiB",
        ),
        ("[http]\nlisten = \"9187\"", "t.toml:6:10: `9187` is not an address and port"),
        ("[types.override]\nnumeric = \"time\"", "t.toml:6:11: numeric has no form `time`"),
        (
            "[types.override]\nnumerik = \"double\"",
            "t.toml:6:11: there is no built-in type `numerik`; a type of the database is written `schema.name`",
        ),
        ("[types.columns]\n\"public.orders.price\" = \"duble\"", "t.toml:6:25: no form is called `duble`"),
        (
            "[types.columns]\n\"orders.price\" = \"double\"",
            "t.toml:6:18: glob `orders.price` has too few dots; write schema.table.column, for example public.orders.price",
        ),
        (
            "[[tables.override]]\nmatch = \"a.b\"\npartition_by = [\"day(c)\", \"dya(d)\"]",
            "t.toml:7:27: `tables.override.partition_by`: `dya(d)`: there is no transform `dya`; there are year(c), month(c), day(c), hour(c), bucket(n, c), truncate(width, c) and identity(c)",
        ),
        (
            "[[tables.override]]\nmatch = \"a.b\"",
            "t.toml:6:9: it says nothing of these tables: `partition_by`, `on_truncate`, `on_attach`, `on_detach` or `on_drop`",
        ),
        (
            "[[tables.override]]\nmatch = \"a.b\"\non_detach = \"mrak\"",
            "t.toml:7:13: `tables.override.on_detach` cannot be `mrak`",
        ),
        (
            "[[tables.override]]\nmatch = \"*.*\"\npartition_by = []\n[[tables.override]]\nmatch = \"events\"\npartition_by = [\"day(c)\"]",
            "t.toml:9:9: glob `events` has too few dots; write schema.table, for example public.orders or *.orders",
        ),
        (
            "[[tables.override]]\nmatch = \"a.b\"\npartition_by = [\"bucket(4, c)\", \"day(c)\", \"bucket(8, c)\"]",
            "t.toml:7:16: `bucket(8, c)` would have the same folders as the one before",
        ),
        (
            "[[tables.override]]\nmatch = \"a.b\"\npartition_by = [\"day(c)\"]\nopen_partitions = 0",
            "t.toml:8:19: `open_partitions` is not between 1 and 1000",
        ),
        (
            "[[partitions.pattern]]\nmatch = \"a(\"\ninto = \"b.c\"",
            "t.toml:6:9: `a(` is not a regular expression: unclosed group",
        ),
        (
            "[[partitions.pattern]]\nmatch = \"a\"\ninto = \"c\"",
            "t.toml:7:8: `c` is not a schema.table, for example public.orders",
        ),
        (
            "[[partitions.pattern]]\nmatch = \"a.b\"\ninto = \"x.y\"\n[[partitions.pattern]]\nmatch = \"x.y\"\ninto = \"p.q\"",
            "t.toml:7:8: `x.y` is itself a leaf, of p.q by another pattern",
        ),
        (
            "[[partitions.pattern]]\nmatch = \"a.b\"\ninto = \"x.y\"\n[[partitions.pattern]]\nmatch = \"a.b\"\ninto = \"x.y\"",
            "t.toml:9:9: `a.b` is there twice",
        ),
        (
            "[partitions]\nfold = \"none\"\ninherit = [\"a.b\"]",
            "t.toml:7:11: `partitions.inherit` folds nothing where `partitions.fold` is \"none\"",
        ),
        (
            "[partitions]\ninherit = [\"events\"]",
            "t.toml:6:11: glob `events` has too few dots; write schema.table, for example public.orders or *.orders",
        ),
    ];
    for (rest, message) in cases {
        let error = with(rest).expect_err(rest);
        assert_eq!(error.to_string(), message);
    }
    let error = parse("[source]\nurl = \"postgresql://a@b\"\nslot = \"A-b\"\n").expect_err("capital letter");
    assert_eq!(error.to_string(), "t.toml:3:8: `A-b` is not the name of a slot: 1 to 63 of a-z, 0-9 and _");
    let error =
        parse("[source]\nurl = \"postgresql://a@b\"\nspool_size = \"1MiB\"\n[lake]\nurl = \"s3://b\"")
            .expect_err("small");
    assert_eq!(
        error.to_string(),
        "t.toml:3:14: `source.spool_size` is 1MiB, and not between 64MiB and 16TiB"
    );
    let error =
        parse("[source]\nurl = \"postgresql://a@b\"\n[lake]\nurl = \"gs://bucket\"").expect_err("not ours");
    assert_eq!(error.to_string(), "t.toml:4:7: `lake.url` begins with s3:// or file://");
    let error =
        parse("[source]\nurl = \"postgresql://a@b\"\n[lake]\nurl = \"file://lake\"").expect_err("relative");
    assert_eq!(
        error.to_string(),
        "t.toml:4:7: a `file://` URL names an absolute path, with three slashes: file:///var/lib/lake"
    );
}

#[test]
fn forms_that_are_meant_are_named() {
    let hint = |rest: &str| with(rest).expect_err(rest).hint_text().unwrap_or_default().to_owned();
    assert_eq!(
        hint("[types.override]\nnumeric = \"duble\""),
        "did you mean `double`? there are: string, double, decimal(38,9)"
    );
    assert_eq!(hint("[types.override]\nnumerik = \"double\""), "did you mean `numeric`?");
    assert_eq!(hint("[types.override]\nuuid = \"json\""), "there are: string, binary, native");
}

#[test]
fn forms_come_from_file_and_environment() {
    let text =
        format!("{REQUIRED}[types.override]\nuuid = \"native\"\n[types.columns]\n\"a.b.c\" = \"json\"\n");
    let config =
        with_environment(&text, &[("TRIBUTARY_TYPES__OVERRIDE__NUMERIC", "decimal(38,9)")]).expect("valid");
    assert_eq!(
        config.types.r#override.iter().collect::<Vec<_>>(),
        [("numeric", "decimal(38,9)"), ("uuid", "native")]
    );
    let variables = [
        ("TRIBUTARY_TYPES__COLUMNS", "public.t.a=decimal(20,3), public.t.b = double"),
        ("TRIBUTARY_TYPES__PROFILE", "native"),
        ("TRIBUTARY_TYPES__ON_UNREPRESENTABLE", "error"),
    ];
    let config = with_environment(&text, &variables).expect("valid");
    assert_eq!(
        config.types.columns.iter().collect::<Vec<_>>(),
        [("public.t.a", "decimal(20,3)"), ("public.t.b", "double")]
    );
    assert!(config.types.refuses_loss() && config.types.profile == Profile::Native);
    let error =
        with_environment(&text, &[("TRIBUTARY_TYPES__OVERRIDE", "uuid=time")]).expect_err("no such form");
    assert_eq!(error.to_string(), "TRIBUTARY_TYPES__OVERRIDE: uuid has no form `time`");
}

#[test]
fn a_form_that_its_type_turns_out_not_to_have_is_placed() {
    let config = with("[types.columns]\n\"public.*.price\" = \"time\"").expect("it may be");
    let misfit = Misfit {
        rule: ChosenBy::Column("public.*.price".to_owned()),
        form: tables::types::Form::Time,
        valid: vec!["string".to_owned(), "double".to_owned()],
    };
    let error = config.types.misfit("public.orders.price", "numeric(10,2)", &misfit);
    assert_eq!(
        error.to_string(),
        "t.toml:6:20: public.orders.price is a numeric(10,2), which has no form `time`"
    );
    assert_eq!(error.hint_text(), Some("there are: string, double"));
}

#[test]
fn a_glob_is_checked_where_it_stands() {
    let error = with("[tables]\ninclude = [\"orders\"]").expect_err("no schema");
    assert!(error.to_string().starts_with("t.toml:6:11: "), "{error}");
    let error = with("[tables]\nbefore = [\"sales.*\", \"orders\"]").expect_err("no schema");
    assert!(error.to_string().starts_with("t.toml:6:10: glob `orders` has too few dots"), "{error}");
}

#[test]
fn old_rows_are_only_kept_where_they_are_asked_for() {
    let before = |text: &str| with(text).expect("it is valid").tables.with_before().expect("they are globs");
    assert!(before("").is_empty());
    let before = before("[tables]\nbefore = [\"sales.*\", \"public.orders\"]");
    assert!(before.includes("sales", "a") && before.includes("public", "orders"));
    assert!(!before.includes("public", "a"));
}

#[test]
fn the_environment_wins_and_is_read_as_its_key_wants() {
    let variables = [
        ("TRIBUTARY_LAKE__S3__ENDPOINT", "http://localhost:9000"),
        ("TRIBUTARY_LAKE__S3__PATH_STYLE", "true"),
        ("TRIBUTARY_LAKE__S3__EXPECTED_BUCKET_OWNER", "123456789012"),
        ("TRIBUTARY_LAKE__S3__REGION", ""),
        ("TRIBUTARY_SOURCE__SLOT", "other"),
        ("TRIBUTARY_SOURCE__PUBLICATION", "one, two"),
        ("TRIBUTARY_SOURCE__FORMAT", "text"),
        ("TRIBUTARY_SNAPSHOT__WORKERS", "4"),
        ("TRIBUTARY_CUT__INTERVAL", "2s"),
        ("TRIBUTARY_HTTP__LISTEN", ""),
        ("TRIBUTARY_TABLES__EXCLUDE", ""),
        ("TRIBUTARY_PORT_9187_TCP_ADDR", "10.0.0.1"),
        ("TRIBUTARY_TABLES__BEFORE", "public.*,sales.orders"),
        ("TRIBUTARY_CONFIG", "elsewhere.toml"),
        ("HOME", "/root"),
    ];
    let text = format!("{REQUIRED}s3.region = \"eu\"\n[http]\nlisten = \"127.0.0.1:1\"\n");
    let config = with_environment(&text, &variables).expect("it is valid");
    assert_eq!(config.lake.s3.endpoint.as_deref(), Some("http://localhost:9000"));
    assert!(config.lake.s3.path_style);
    assert_eq!(config.lake.s3.expected_bucket_owner.as_deref(), Some("123456789012"));
    assert_eq!(config.lake.s3.region, None);
    assert_eq!(config.source.slot, "other");
    assert_eq!(config.source.publication, ["one", "two"]);
    assert_eq!(config.source.format, Format::Text);
    assert_eq!(config.cut.interval, Duration::from_secs(2));
    assert_eq!(config.http.listen, "");
    assert!(config.tables.exclude.is_empty());
    assert_eq!(config.tables.before, ["public.*", "sales.orders"]);
}

#[test]
fn the_environment_alone_is_enough() {
    let variables = environment(&[
        ("TRIBUTARY_SOURCE__URL", "postgresql://cdc@db/shop"),
        ("TRIBUTARY_LAKE__URL", "file:///lake"),
    ]);
    let config = Config::from_parts(None, &variables).expect("it is valid");
    assert_eq!(config.lake.location().expect("it is one"), Location::Directory("/lake".into()));
    let error = Config::from_parts(None, &Environment::default()).expect_err("nothing is set");
    assert_eq!(error.to_string(), "`source.url` is not set (no configuration file was found)");
}

#[test]
fn a_wrong_variable_is_named() {
    let cases = [
        (
            ("TRIBUTARY_LAKE__S3__REGON", "x"),
            "TRIBUTARY_LAKE__S3__REGON: there is no key `regon` in [lake.s3]",
            "did you mean `region`?",
        ),
        (
            ("TRIBUTARY_LAKE__S3__PATH_STYLE", "yes"),
            "TRIBUTARY_LAKE__S3__PATH_STYLE: `lake.s3.path_style`: neither `true` nor `false`",
            "",
        ),
        (
            ("TRIBUTARY_SNAPSHOT__WORKERS", "x"),
            "TRIBUTARY_SNAPSHOT__WORKERS: `snapshot.workers`: this is not a number",
            "",
        ),
        (
            ("TRIBUTARY_LAKE_URL", "x"),
            "TRIBUTARY_LAKE_URL: two underscores stand between section and key",
            "TRIBUTARY_LAKE__URL",
        ),
        (("TRIBUTARY_SOURCE__URL__X", "x"), "TRIBUTARY_SOURCE__URL__X: there is no key `source.url.x`", ""),
        (
            ("TRIBUTARY_SOURCE__SLOT", "A"),
            "TRIBUTARY_SOURCE__SLOT: `A` is not the name of a slot: 1 to 63 of a-z, 0-9 and _",
            "",
        ),
    ];
    for (variable, message, hint) in cases {
        let error = with_environment(REQUIRED, &[variable]).expect_err(message);
        assert_eq!((error.to_string().as_str(), error.hint_text().unwrap_or_default()), (message, hint));
    }
}

#[test]
fn sizes_and_durations_read_and_print() {
    let config = with("[cut]\nfile_size = \"1 GiB\"\ninterval = \"90m\"").expect("it is valid");
    assert_eq!(config.cut.file_size.to_string(), "1GiB");
    assert_eq!(config.cut.interval, Duration::from_secs(5_400));
    assert_eq!(ByteSize::kibibytes(1_536).to_string(), "1536KiB");
}

#[test]
fn a_password_in_the_url_is_warned_of_and_never_printed() {
    for url in [
        "postgresql://cdc:hunter2@db/shop",
        "postgresql://cdc@db/shop?user=x&password=hunter2&sslmode=verify-full",
    ] {
        let text = format!("[source]\nurl = \"{url}\"\n[lake]\nurl = \"s3://b\"");
        let config = parse(&text).expect("it is valid");
        assert_eq!(config.warnings().len(), 1, "{url}");
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
    assert!(!ConnectionUrl::from("postgresql://cdc@db/a:b@c").has_password());
}

#[test]
fn a_snapshot_may_be_slowed() {
    let parse = |section: &str| Config::parse("x.toml", &format!("{MINIMAL}\n[snapshot]\n{section}\n"));
    let rate = |section: &str| parse(section).map(|config| config.snapshot.max_rate.as_u64()).ok();
    assert_eq!(rate(""), Some(0));
    assert_eq!(rate("max_rate = \"0B\""), Some(0));
    assert_eq!(rate("max_rate = \"50MiB\""), Some(50 << 20));
    assert_eq!(rate("max_rate = \"5B\""), None);
    assert_eq!(rate("workers = 0"), None);
    assert!(parse("workers = 8").is_ok_and(|config| config.warnings().is_empty()));
}

#[test]
fn a_snapshot_reads_where_catalogs_are_read_unless_it_is_told_where() {
    let host = |text: &str| {
        let config = parse(&format!("[source]\nurl = \"postgresql://cdc@source/shop\"\n{text}"));
        config.and_then(|config| config.snapshot_options()).map(|options| options.address())
    };
    let lake = "[lake]\nurl = \"s3://b\"\n";
    let catalogs = "catalog_url = \"postgresql://cdc@catalogs/shop\"\n";
    let snapshot = "[snapshot]\nurl = \"postgresql://cdc:secret@standby/shop\"\n";
    assert_eq!(host(lake).ok().as_deref(), Some("source:5432/shop"));
    assert_eq!(host(&[catalogs, lake].concat()).ok().as_deref(), Some("catalogs:5432/shop"));
    let text = [catalogs, lake, snapshot].concat();
    assert_eq!(host(&text).ok().as_deref(), Some("standby:5432/shop"));
    let config = parse(&format!("[source]\nurl = \"postgresql://cdc@source/shop\"\n{text}")).expect("valid");
    assert!(
        config.warnings().iter().any(|warning| warning.contains("`snapshot.url`")),
        "{:?}",
        config.warnings()
    );
}

#[test]
fn a_wal_budget_has_a_bound_and_a_policy() {
    let source = |keys: &str| {
        let text = format!("[source]\nurl = \"postgresql://cdc@db/shop\"\n{keys}[lake]\nurl = \"s3://b\"\n");
        parse(&text).map(|config| (config.source.wal_budget(), config.source.on_wal_budget))
    };
    assert_eq!(source("").ok(), Some((None, OnWalBudget::Halt)));
    let both = source("wal_budget = \"50GiB\"\non_wal_budget = \"drop-slot\"\n");
    assert_eq!(both.ok(), Some((Some(50 << 30), OnWalBudget::DropSlot)));
    assert!(source("wal_budget = \"63MiB\"\n").is_err());
    let without = source("on_wal_budget = \"drop-slot\"\n").expect_err("it has no effect");
    assert!(without.chain().contains("has no effect"), "{without:?}");
    assert!(source("wal_budget = \"50GiB\"\non_wal_budget = \"drop_slot\"\n").is_err());
}

#[test]
fn a_source_that_is_a_standby_has_a_primary_with_the_same_password_file() {
    let text = "[source]\nurl = \"postgresql://cdc@standby/shop\"\nprimary_url = \"postgresql://cdc:secret@primary/shop\"\n[lake]\nurl = \"s3://b\"\n";
    let config = parse(text).expect("it is valid");
    let primary = config.primary_options().expect("a URL").map(|options| options.address());
    assert_eq!(primary.as_deref(), Some("primary:5432/shop"));
    assert!(config.warnings().iter().any(|warning| warning.contains("`source.primary_url`")));
    assert_eq!(with("").expect("it is valid").primary_options().expect("none"), None);
}

#[test]
fn the_last_override_that_matches_counts() {
    let text = "[[tables.override]]\nmatch = \"public.*\"\ninsert_only = true\npartition_by = [\"day(at)\"]\nopen_partitions = 7\n\
                [[tables.override]]\nmatch = \"public.o*\"\npartition_by = []\n\
                [[tables.override]]\nmatch = \"public.other\"\npartition_by = [\"bucket(4, id)\", \"identity(region)\"]\n";
    let config = with(text).expect("it is valid");
    let layouts = config.tables.layouts().expect("they are globs");
    let of = |name: &'static str| layouts.of(std::iter::once(("public", name)));
    assert_eq!(of("events").map(|rule| (rule.open_max, rule.insert_only)), Some((7, true)));
    assert_eq!(of("events").and_then(|rule| rule.place.as_deref()), Some("t.toml:5:1"));
    assert!(of("orders").is_none());
    let of_other = of("other").expect("it is laid out by columns");
    let by: Vec<String> = of_other.partition_by.iter().map(ToString::to_string).collect();
    assert_eq!(
        (by, of_other.open_max),
        (vec!["bucket(4, id)".to_owned(), "identity(region)".to_owned()], 100)
    );
}

#[test]
fn a_table_that_two_patterns_claim_is_placed() {
    let text = "[[partitions.pattern]]\nmatch = 'public\\.o.*'\ninto = \"public.all\"\n\
                [[partitions.pattern]]\nmatch = '.*\\.orders_\\d+'\ninto = \"sales.orders\"\n";
    let folding = with(text).unwrap().partitions.folding(None).unwrap();
    let target =
        |name| folding.pattern_of("public", name).map(|found| found.map(|found| found.target().1.to_owned()));
    assert_eq!(target("other").unwrap().as_deref(), Some("all"));
    assert_eq!(target("events").unwrap(), None);
    let error = target("orders_1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "t.toml:8:1: public.orders_1 matches two patterns, that of public.all and that of sales.orders"
    );
}

#[test]
fn each_policy_of_a_table_is_that_of_the_last_override_that_has_it() {
    let text = "[partitions]\non_detach = \"mark\"\n\
                [[tables.override]]\nmatch = \"public.*\"\non_truncate = \"keep\"\non_drop = \"mark\"\n\
                [[tables.override]]\nmatch = \"public.o*\"\non_detach = \"keep\"\non_attach = \"ignore\"\npartition_by = [\"day(at)\"]\n\
                [[tables.override]]\nmatch = \"public.orders\"\non_truncate = \"mark\"\n";
    let config = with(text).expect("it is valid");
    let policies = config.partition_policies().expect("they are globs");
    let of = |schema: &'static str, name: &'static str| {
        let names = std::iter::once((schema, name));
        let PartitionPolicies { marks_truncate, on_attach, on_detach, on_drop } = &policies;
        (
            marks_truncate.of(names.clone()),
            on_attach.of(names.clone()),
            on_detach.of(names.clone()),
            on_drop.of(names),
        )
    };
    assert_eq!(of("other", "orders"), (true, OnAttach::Backfill, OnGone::Mark, OnGone::Keep));
    assert_eq!(of("public", "events"), (false, OnAttach::Backfill, OnGone::Mark, OnGone::Mark));
    assert_eq!(of("public", "orders"), (true, OnAttach::Ignore, OnGone::Keep, OnGone::Mark));
    // A name that it had before counts as well.
    let renamed = [("public", "sales"), ("public", "orders")].into_iter();
    assert_eq!(policies.on_detach.of(renamed), OnGone::Keep);
    assert!(
        config.tables.layouts().expect("they are globs").of(std::iter::once(("public", "orders"))).is_some()
    );
}

#[test]
fn without_a_word_only_this_host_is_answered() {
    let listen: std::net::SocketAddr = Config::default().http.listen.parse().expect("an address");
    assert!(listen.ip().is_loopback(), "{listen}");
}

#[test]
fn who_can_be_listened_to_on_the_way_is_told() {
    let warnings = |source: &str, endpoint: &str| {
        let endpoint =
            if endpoint.is_empty() { String::new() } else { format!("endpoint = \"{endpoint}\"\n") };
        let text = format!("[source]\nurl = \"{source}\"\n[lake]\nurl = \"s3://b\"\n[lake.s3]\n{endpoint}");
        parse(&text).expect("it is valid").warnings()
    };
    for safe in [
        "postgresql://c@db",
        "postgresql://c@db?sslmode=verify-ca",
        "postgresql://c@127.0.0.1?sslmode=disable",
        "postgresql:///d?user=c&host=/run",
    ] {
        assert_eq!(warnings(safe, "https://s3"), Vec::<String>::new(), "{safe}");
    }
    for mode in ["disable", "allow", "prefer", "require"] {
        let told = warnings(&format!("postgresql://c@db?sslmode={mode}"), "");
        assert!(
            matches!(told.as_slice(), [one] if one.contains("source.url") && one.contains("verify-full")),
            "{told:?}"
        );
    }
    for (endpoint, is_told) in [
        ("http://minio:9000", true),
        ("http://127.0.0.1:9000", false),
        ("http://[::1]:9000/x", false),
        ("http://localhost", false),
        ("https://minio", false),
    ] {
        assert_eq!(!warnings("postgresql://c@db", endpoint).is_empty(), is_told, "{endpoint}");
    }
}

#[test]
fn tokens_of_rds_take_no_other_password() {
    let by_iam = |url: &str| {
        let config =
            parse(&format!("[source]\nauth = \"rds-iam\"\nurl = \"{url}\"\n[lake]\nurl = \"s3://b\"\n"));
        config.expect("it is valid").source_options()
    };
    assert_eq!(by_iam("postgresql://c@db").expect("options").credentials, crate::source::Credentials::RdsIam);
    let error = by_iam("postgresql://c:hunter2@db").expect_err("two passwords");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn no_configuration_prints_its_password() {
    for url in [
        "postgresql://c:hunter2@db",
        "postgresql://c:hun/hunter2@db",
        "postgresql://c@db?x=1&password=hunter2",
        "postgresql://c:a?hunter2@db",
        "hunter2",
    ] {
        let config = Config { source: Source { url: url.into(), ..Source::default() }, ..Config::default() };
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
}
