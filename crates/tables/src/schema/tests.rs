use arrow::datatypes::DataType;
use proptest::prelude::*;

use super::*;
use crate::types::{Resolved, TypeCatalog};

const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const INT4_ARRAY: u32 = 1007;
const INT8_ARRAY: u32 = 1016;
const VARCHAR: u32 = 1043;
const NUMERIC: u32 = 1700;

fn spec(name: &str, oid: u32) -> ColumnSpec {
    spec_with(name, oid, -1)
}

fn spec_with(name: &str, oid: u32, type_modifier: i32) -> ColumnSpec {
    ColumnSpec {
        name: name.to_owned(),
        type_oid: Oid(oid),
        type_modifier,
        resolved: TypeCatalog::default().resolve(Oid(oid), type_modifier),
    }
}

fn numeric(name: &str, precision: i32, scale: i32) -> ColumnSpec {
    spec_with(name, NUMERIC, ((precision << 16) | (scale & 0x7FF)) + 4)
}

impl TableSchema {
    /// The next version, made without the catalogs.
    fn evolved(&self, columns: &[ColumnSpec], key: &[String]) -> Option<TableSchema> {
        self.evolve(columns, key, self.before, &Catalog::default()).map(|evolution| evolution.schema)
    }
}

fn schema_of(columns: &[ColumnSpec]) -> TableSchema {
    TableSchema::new(columns, vec![])
}

fn lake_names(names: &[&str]) -> Vec<String> {
    let columns: Vec<_> = names.iter().map(|name| spec(name, TEXT)).collect();
    schema_of(&columns).columns.into_iter().map(|column| column.name).collect()
}

/// Ids, lake names, types and liveness, a column a line.
fn shape(schema: &TableSchema) -> Vec<String> {
    let line = |column: &Column| {
        let element = column.nested_field_ids.first().map(|id| format!("/{id}")).unwrap_or_default();
        let dropped = if column.dropped { " dropped" } else { "" };
        format!("{}{element} {} {:?}{dropped}", column.field_id, column.name, column.lake)
    };
    schema.columns.iter().map(line).collect()
}

#[test]
fn field_ids_top_level_first() {
    let schema = schema_of(&[spec("id", INT8), spec("tags", INT4_ARRAY), spec("note", TEXT)]);
    assert_eq!(shape(&schema), ["100 id Int64", "101/103 tags List(Int32)", "102 note Utf8"]);
    assert_eq!((schema.id, schema.next_field_id), (1, 104));
    let next = schema.evolved(&[spec("more", INT4_ARRAY), spec("last", BOOL)], &[]).unwrap();
    assert_eq!(shape(&next)[3..], ["104/106 more List(Int32)", "105 last Boolean"]);
    assert_eq!((next.id, next.next_field_id), (2, 107));
}

#[test]
fn what_is_there_fits() {
    let columns = [spec("id", INT8), numeric("price", 10, 2), spec("note", TEXT)];
    let schema = TableSchema::new(&columns, vec!["id".into()]);
    let key = ["id".to_owned()];
    assert_eq!(schema.evolved(&columns, &key), None);
    // Another order, and a leaf without the column.
    assert_eq!(schema.evolved(&[columns[2].clone(), columns[0].clone()], &key), None);
    assert_eq!(schema.evolved(&[], &key), None);
}

#[test]
fn a_key_is_a_set() {
    let columns = [spec("a", INT4), spec("b", INT4)];
    let schema = TableSchema::new(&columns, vec!["a".into(), "b".into()]);
    assert_eq!(schema.evolved(&columns, &["b".into(), "a".into()]), None);
    let next = schema.evolved(&columns, &["a".into()]).unwrap();
    assert_eq!(next.key, ["a"]);
    assert_eq!((next.columns, next.id), (schema.columns, 2));
}

#[test]
fn promotions_keep_the_field() {
    let schema = schema_of(&[spec("a", INT4), numeric("b", 10, 2), spec("c", INT4_ARRAY), spec("d", JSON)]);
    let wider = [spec("a", INT8), numeric("b", 12, 2), spec("c", INT8_ARRAY), spec("d", TEXT)];
    let next = schema.evolved(&wider, &[]).unwrap();
    let expected =
        ["100 a Int64", "101 b Decimal { precision: 12, scale: 2 }", "102/104 c List(Int64)", "103 d Utf8"];
    assert_eq!(shape(&next), expected);
    assert_eq!(next.columns[3].type_name, "text");
    // A leaf that lags behind, or a row repeated from before the change, is read by the wider column.
    let narrower = [spec("a", INT4), numeric("b", 10, 2), spec("c", INT4_ARRAY)];
    assert_eq!(next.evolved(&narrower, &[]), None);
}

#[test]
fn lengths_only_grow() {
    let schema = schema_of(&[spec_with("a", VARCHAR, 24)]);
    let next = schema.evolved(&[spec_with("a", VARCHAR, 54)], &[]).unwrap();
    assert_eq!(next.columns[0].type_name, "varchar(50)");
    assert_eq!(next.evolved(&[spec_with("a", VARCHAR, 24)], &[]), None);
    let next = next.evolved(&[spec_with("a", VARCHAR, -1)], &[]).unwrap();
    assert_eq!(next.columns[0].type_name, "varchar");
    assert_eq!(next.evolved(&[spec_with("a", VARCHAR, 54)], &[]), None);
}

#[test]
fn another_type_is_another_column() {
    let schema = schema_of(&[spec("a", INT4), spec("b", TEXT)]);
    let second = schema.evolved(&[spec("a", TEXT), spec("b", TEXT)], &[]).unwrap();
    assert_eq!(shape(&second), ["100 a Int32 dropped", "101 b Utf8", "102 a_2 Utf8"]);
    assert_eq!(second.position("a"), Some(2));
    assert_eq!(second.evolved(&[spec("a", TEXT)], &[]), None);
    let third = second.evolved(&[spec("a", BOOL)], &[]).unwrap();
    assert_eq!(shape(&third)[2..], ["102 a_2 Utf8 dropped", "103 a_3 Boolean"]);
    // A scale is part of the type, and no promotion changes it.
    let schema = schema_of(&[numeric("a", 10, 2)]);
    let second = schema.evolved(&[numeric("a", 12, 3)], &[]).unwrap();
    assert_eq!(second.columns[1].name, "a_2");
}

#[test]
fn a_type_that_comes_back_has_its_column_again() {
    let first = [spec("a", INT4)];
    let schema = schema_of(&first);
    let second = schema.evolved(&[spec("a", TEXT)], &[]).unwrap();
    let third = second.evolved(&first, &[]).unwrap();
    assert_eq!(shape(&third), ["100 a Int32", "101 a_2 Utf8 dropped"]);
    let fourth = third.evolved(&[spec("a", TEXT)], &[]).unwrap();
    assert_eq!(fourth.columns, second.columns);
    assert_eq!(fourth.id, 4);
}

/// T99
#[test]
fn t99_names_are_kept_if_every_engine_takes_them() {
    let safe = ["id", "Mixed", "Ünï", "with-dash", "a.b", "_leading", "cdc", "\"quoted\"", "%", "we/ird"];
    assert_eq!(lake_names(&safe), safe);
    for name in ["", "  ", "a b", "a,b", "a=b", "a\tb", "a\u{7f}", "_CDC_op", "cdc_date", "CDC_Hour"] {
        let [lake] = lake_names(&[name]).try_into().unwrap();
        let (legal, hash) = lake.rsplit_once('_').unwrap();
        assert!(legal.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')), "{lake}");
        assert_eq!(hash.len(), 8, "{lake}");
    }
    assert_eq!(lake_names(&["Total Price"]), ["total_price_3cb3f051"]);
}

#[test]
fn names_that_differ_in_case_stay_apart() {
    let names = lake_names(&["id", "ID", "Id"]);
    assert_eq!(names[0], "id");
    assert!(names[1].starts_with("id_") && names[2].starts_with("id_") && names[1] != names[2]);
    // The name that a changed type would take is in use.
    let schema = schema_of(&[spec("a", INT4), spec("A_2", TEXT)]);
    let next = schema.evolved(&[spec("a", TEXT)], &[]).unwrap();
    assert_eq!(next.columns[2].name, "a_3");
}

/// A document as the first version wrote it.
#[test]
fn documents_of_before_forms_are_read() {
    let document = r#"{"id":3,"columns":[
        {"field_id":100,"element_field_id":null,"name":"id","source_name":"id","type_oid":20,"type_modifier":-1,
         "type_name":"int8","codec":"int8","lake":"int64","dropped":false},
        {"field_id":101,"element_field_id":104,"name":"tags","source_name":"tags","type_oid":1009,"type_modifier":-1,
         "type_name":"text[]","codec":{"array":"text"},"lake":{"list":"utf8"},"dropped":false},
        {"field_id":102,"element_field_id":null,"name":"wait","source_name":"wait","type_oid":1186,"type_modifier":-1,
         "type_name":"interval","codec":"other","lake":"utf8","dropped":false},
        {"field_id":103,"element_field_id":null,"name":"price","source_name":"price","type_oid":1700,"type_modifier":655366,
         "type_name":"numeric(10,2)","codec":{"decimal":{"precision":10,"scale":2}},
         "lake":{"decimal":{"precision":10,"scale":2}},"dropped":false}],
        "key":["id"],"next_field_id":105}"#;
    let schema: TableSchema = serde_json::from_str(document).unwrap();
    let expected = [
        "100 id Int64",
        "101/104 tags List(Utf8)",
        "102 wait Utf8",
        "103 price Decimal { precision: 10, scale: 2 }",
    ];
    assert_eq!(shape(&schema), expected);
    for codec in
        ["bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric_text", "text", "json", "jsonb"]
            .into_iter()
            .chain(["bytea", "date", "timestamp", "timestamptz", "time", "uuid", "enum", "other"])
    {
        let name = serde_json::to_string(codec).unwrap();
        let read: Codec = serde_json::from_str(&name).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), name);
    }
    // The columns go on: what was text of an unknown kind is text of a known one.
    const INTERVAL: u32 = 1186;
    let next = schema.evolved(&[spec("tags", 1009), spec("wait", INTERVAL)], &["id".to_owned()]).unwrap();
    assert_eq!((next.columns[2].name.as_str(), &next.columns[2].codec), ("wait", &Codec::Interval));
    assert_eq!(next.columns.len(), 4);
    let document = serde_json::to_string(&next).unwrap();
    assert_eq!(serde_json::from_str::<TableSchema>(&document).unwrap(), next);
}

#[test]
fn another_form_is_another_column() {
    let in_form = |oid: u32, form: &str| {
        let resolved = TypeCatalog::default().resolve(Oid(oid), -1);
        let codec = resolved.codec.in_form(form.parse().unwrap()).unwrap();
        ColumnSpec { resolved: Resolved::new(codec, resolved.type_name), ..spec("a", oid) }
    };
    let evolved = |one: ColumnSpec, other: ColumnSpec| {
        let next = schema_of(&[one]).evolved(&[other], &[]);
        next.map_or(1, |next| next.columns.len())
    };
    // Of another lake type, or of the same one and another meaning.
    for (oid, form) in
        [(NUMERIC, "double"), (2950, "native"), (1186, "struct"), (1186, "iso8601"), (1042, "trim")]
    {
        assert_eq!(evolved(spec("a", oid), in_form(oid, form)), 2, "{form}");
        assert_eq!(evolved(in_form(oid, form), spec("a", oid)), 2, "{form}");
        assert_eq!(evolved(in_form(oid, form), in_form(oid, form)), 1, "{form}");
    }
    assert_eq!(evolved(in_form(1042, "trim"), spec("a", TEXT)), 2);
    assert_eq!(evolved(in_form(INT4_ARRAY, "json"), in_form(INT4_ARRAY, "string")), 2);
    // What becomes of values beyond the bounds is no other column.
    assert_eq!(evolved(spec("a", 1082), in_form(1082, "null")), 1);
    // Text of any type is text, as before.
    assert_eq!(evolved(spec("a", TEXT), in_form(INT4_ARRAY, "string")), 1);
}

#[test]
fn the_column_of_old_rows_comes_and_goes_and_moves_no_id() {
    let columns = [spec("id", INT8), spec("tags", INT4_ARRAY), spec("_cdc_before", TEXT)];
    let schema = schema_of(&columns);
    // The name is not for others, whether or not the column is there.
    assert!(schema.columns[2].name.starts_with("_cdc_before_"));
    let fields = |schema: &TableSchema| {
        let id = |field: &Field| field.metadata().get(FIELD_ID).cloned().unwrap_or_default();
        let schema = schema.arrow();
        let fields = schema.fields().iter().map(|field| (field.name().clone(), id(field)));
        fields.collect::<Vec<_>>()
    };
    let without = fields(&schema);
    let on = schema.evolve(&columns, &[], true, &Catalog::default()).unwrap();
    assert!(on.stale.is_empty());
    let on = on.schema;
    assert_eq!((on.id, on.next_field_id, &on.columns), (2, schema.next_field_id, &schema.columns));
    let (mut with, added) = (fields(&on), ("_cdc_before".to_owned(), "12".to_owned()));
    assert_eq!(with.remove(METADATA_COLUMNS.len()), added);
    assert_eq!(with, without);
    assert_eq!(on.evolve(&columns, &[], true, &Catalog::default()), None);
    let more = on.evolve(&[spec("more", INT4_ARRAY)], &[], true, &Catalog::default()).unwrap().schema;
    assert!(more.before && more.columns[3].field_id == 104);
    let off = on.evolve(&columns, &[], false, &Catalog::default()).unwrap().schema;
    assert_eq!((off.id, fields(&off)), (3, without));
    // The log has documents from before there was such a column, and is read by their daemons while it is off.
    let document = serde_json::to_string(&schema).unwrap();
    assert!(!document.contains("before\":"));
    assert_eq!(serde_json::from_str::<TableSchema>(&document).unwrap(), schema);
    let document = serde_json::to_string(&on).unwrap();
    assert_eq!(serde_json::from_str::<TableSchema>(&document).unwrap(), on);
}

#[test]
fn arrow_fields_carry_ids() {
    let schema = schema_of(&[spec("id", INT8), spec("tags", INT4_ARRAY)]).arrow();
    let id = |field: &Field| field.metadata().get(FIELD_ID).cloned().unwrap_or_default();
    let ids: Vec<String> = schema.fields().iter().map(|field| id(field)).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7", "8", "100", "101"]);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[..8], METADATA_COLUMNS);
    let DataType::List(element) = schema.field(9).data_type() else { panic!("not a list") };
    assert_eq!((element.name().as_str(), id(element).as_str()), ("element", "102"));
    let DataType::List(element) = schema.field(6).data_type() else { panic!("not a list") };
    assert_eq!((element.name().as_str(), id(element).as_str()), ("element", "9"));
    let DataType::Map(entry, _) = schema.field(7).data_type() else { panic!("not a map") };
    let DataType::Struct(fields) = entry.data_type() else { panic!("not a struct") };
    assert_eq!(fields.iter().map(|field| id(field)).collect::<Vec<_>>(), ["10", "11"]);
    assert!(schema.fields().iter().skip(8).all(|field| field.is_nullable()));
}

proptest! {
    #[test]
    fn lake_names_are_unique_and_stable(names in prop::collection::hash_set("[aAbB =_]{0,3}", 0..20)) {
        let names: Vec<String> = names.into_iter().collect();
        let columns: Vec<_> = names.iter().map(|name| spec(name, TEXT)).collect();
        let whole = schema_of(&columns);
        let lower: HashSet<String> = whole.columns.iter().map(|column| column.name.to_lowercase()).collect();
        prop_assert_eq!(lower.len(), names.len());
        prop_assert_eq!(whole.evolved(&columns, &[]), None);
        // One by one is the same as all at once.
        let mut grown = schema_of(&[]);
        for column in &columns {
            grown = grown.evolved(std::slice::from_ref(column), &[]).unwrap();
        }
        grown.columns.iter_mut().for_each(|column| column.came_later = false);
        prop_assert_eq!(grown.columns, whole.columns);
    }

    #[test]
    fn ids_never_come_twice(steps in prop::collection::vec((0..3_usize, 0..6_usize), 0..30)) {
        let types = [INT4, INT8, TEXT, BOOL, INT4_ARRAY, NUMERIC];
        let mut schema = schema_of(&[]);
        for (name, oid) in steps {
            let column = spec(["a", "b", "a_2"][name], types[oid]);
            let next = schema.evolved(std::slice::from_ref(&column), &[]);
            if let Some(next) = next {
                for (old, new) in schema.columns.iter().zip(&next.columns) {
                    prop_assert_eq!((old.field_id, &old.name), (new.field_id, &new.name));
                }
                schema = next;
            }
            prop_assert_eq!(schema.evolved(&[column], &[]), None);
            let ids = schema.columns.iter().flat_map(|column| [&[column.field_id], column.nested_field_ids.as_slice()].concat());
            let ids: Vec<i32> = ids.collect();
            prop_assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
            prop_assert!(ids.iter().all(|id| *id < schema.next_field_id));
        }
        prop_assert!(schema.columns.len() <= 3 * types.len());
    }
}
