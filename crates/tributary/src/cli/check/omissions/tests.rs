use super::*;

fn told(found: &Omissions) -> Vec<(&'static str, &'static str, String)> {
    let mut report = Report::default();
    let selection = Selection::new(&["*.*".to_owned()], &["public.scratch*".to_owned()]).unwrap();
    tell(&mut report, found, &selection);
    report.checks.into_iter().map(|check| (check.name, check.state.label(), check.found)).collect()
}

/// T12, T45, T46, T48: each omission is told with its tables; what is excluded is not.
#[test]
fn t45_t46_t48_omissions_are_told() {
    let filtered = |table: &str, may_lack_values| Filtered { table: table.to_owned(), may_lack_values };
    let name = |name: &str| ("public".to_owned(), name.to_owned());
    let found = Omissions {
        disagreeing: vec!["public.a".to_owned()],
        filtered: vec![filtered("public.b", false), filtered("public.c", true)],
        unlogged: vec![name("scratch_1"), name("queue")],
    };
    let told = told(&found);
    let expected = [
        ("column lists", "fail", "of public.a:"),
        ("row filters", "warn", "public.b, public.c:"),
        ("row filters", "warn", "public.c:"),
        ("unlogged tables", "warn", "public.queue:"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((name, state, text), (expected_name, expected_state, words)) in told.iter().zip(expected) {
        assert_eq!((*name, *state), (expected_name, expected_state));
        assert!(text.contains(words) && !text.contains("scratch"), "{text}");
    }
}

#[test]
fn nothing_is_said_of_nothing_and_thousands_take_a_line() {
    let none = Omissions { disagreeing: vec![], filtered: vec![], unlogged: vec![] };
    assert_eq!(told(&none), []);
    let names: Vec<String> = (0..1000).map(|number| format!("t{number}")).collect();
    assert_eq!(some(names.iter().map(String::as_str)).unwrap(), "t0, t1, t2, t3, t4 and 995 more");
}
