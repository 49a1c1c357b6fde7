use super::*;

#[test]
fn the_same_seed_gives_the_same_values() {
    let (mut one, mut other) = (Random::new(7), Random::new(7));
    for kind in [Kind::Json, Kind::Numeric, Kind::LongText, Kind::Uuid] {
        assert_eq!(one.literal(kind), other.literal(kind));
    }
}

#[test]
fn indexes_stay_below_their_limit() {
    let mut random = Random::new(1);
    for limit in [1, 2, 15, 16, 400] {
        for _ in 0..200 {
            assert!(random.skewed(limit) < limit);
            assert!(random.below(limit) < limit);
        }
    }
}

#[test]
fn quotes_are_doubled() {
    assert_eq!(quoted("it's"), "'it''s'");
    let mut random = Random::new(3);
    for _ in 0..500 {
        let literal = random.literal(Kind::Text);
        assert_eq!(literal.matches('\'').count() % 2, 0, "{literal}");
    }
}

#[test]
fn arrays_and_numbers_look_like_sql() {
    let mut random = Random::new(5);
    for _ in 0..200 {
        let array = random.literal(Kind::IntArray);
        assert!(array == "null" || (array.starts_with("'{") && array.ends_with("}'")), "{array}");
        let numeric = random.literal(Kind::Numeric);
        assert!(numeric == "null" || numeric.parse::<f64>().is_ok(), "{numeric}");
    }
}
