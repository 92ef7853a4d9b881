//! docs/failpoints.md lists the points that there are.

use wharf_failpoints::Point;

#[test]
fn every_point_is_documented_and_nothing_else_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/failpoints.md");
    let text = std::fs::read_to_string(path).expect("docs/failpoints.md");
    let (_, table) = text.split_once("| Point |").expect("a table of points");
    let documented: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let points: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(documented, points);
}
