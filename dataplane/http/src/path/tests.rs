use super::*;

const BASE: Normalization = Normalization {
    normalize: true,
    merge_slashes: false,
    escaped_slashes: EscapedSlashes::Keep,
    fragment: Fragment::Strip,
};

fn check(mode: Normalization, path: &str, expected: &str) {
    let mut out = Vec::new();
    let outcome = mode.apply(path.as_bytes(), &mut out);
    let got = match outcome {
        Outcome::Unchanged => path.to_owned(),
        Outcome::Changed => String::from_utf8_lossy(&out).into_owned(),
        Outcome::Redirect => format!("redirect {}", String::from_utf8_lossy(&out)),
        Outcome::Rejected => "rejected".to_owned(),
    };
    assert_eq!(got, expected, "{path}");
}

#[test]
fn ordinary_paths_are_left_alone_without_work() {
    for path in ["/", "/a/b.html?x=/../%2f", "/a..b/c.", "/a;b=c/@:!$&'()*+,="] {
        let mut out = Vec::new();
        assert_eq!(BASE.apply(path.as_bytes(), &mut out), Outcome::Unchanged, "{path}");
        assert!(out.is_empty());
    }
}

#[test]
fn dot_segments_are_resolved_in_every_spelling() {
    check(BASE, "/a/../x", "/x");
    check(BASE, "/a/%2e%2E/x", "/x");
    check(BASE, "/a/.%2e/x", "/x");
    check(BASE, "/../../x", "/x");
    check(BASE, "/a/b/..", "/a/");
    check(BASE, "/a/.", "/a/");
    check(BASE, "/a/./b", "/a/b");
    check(BASE, "/a\\..\\x", "/x");
    check(BASE, "/a/...", "/a/...");
    check(BASE, "/a/..b", "/a/..b");
    check(BASE, "/a/../?q=/../", "/?q=/../");
}

#[test]
fn bytes_outside_a_path_are_escaped() {
    check(BASE, "/\"x<>", "/%22x%3C%3E");
    check(BASE, "/^`{|}", "/%5E%60%7B%7C%7D");
    check(BASE, "/[]", "/[]");
}

#[test]
fn malformed_escapes_stay() {
    check(BASE, "/%zz%4", "/%zz%4");
    check(BASE, "/%", "/%");
    check(BASE, "/%%32e", "/%2e");
}

#[test]
fn nul_is_refused() {
    check(BASE, "/a%00", "rejected");
    check(BASE, "/a\0", "rejected");
    check(BASE, "/a?%00", "/a?%00");
}

#[test]
fn fragments_are_cut_or_refused() {
    check(BASE, "/a#b?c", "/a");
    check(BASE, "/a?b#c", "/a?b");
    check(Normalization { fragment: Fragment::Reject, ..BASE }, "/a?b#c", "rejected");
    check(Normalization { normalize: false, ..BASE }, "/a/../b#c", "/a/../b");
}

#[test]
fn escaped_slashes_follow_their_action() {
    let with = |escaped_slashes| Normalization { escaped_slashes, merge_slashes: true, ..BASE };
    check(with(EscapedSlashes::Keep), "/a%2Fb", "/a%2Fb");
    check(with(EscapedSlashes::Reject), "/a%5cb", "rejected");
    check(with(EscapedSlashes::Reject), "/ab?%2f", "/ab?%2f");
    check(with(EscapedSlashes::Forward), "/a%2f..%5Cb", "/b");
    check(with(EscapedSlashes::Redirect), "/a%2Fb//c?q=%2F", "redirect /a/b/c?q=%2F");
}

#[test]
fn slashes_merge_in_the_path_only() {
    let merge = Normalization { merge_slashes: true, ..BASE };
    check(merge, "//a///b//?c=//", "/a/b/?c=//");
    check(merge, "/a\\\\b", "/a/b");
}

#[test]
fn normal_form_is_stable() {
    let mode = Normalization { merge_slashes: true, escaped_slashes: EscapedSlashes::Forward, ..BASE };
    let alphabet = [".", "/", "\\", "%2e", "%2f", "%5c", "%", "2", "e", "a", "?", "%41", "%25"];
    // Every string of four pieces: the second application must change nothing, except where the
    // first one assembled a new escape from a malformed one.
    for i in 0..alphabet.len().pow(4) {
        let piece = |n: u32| alphabet[i / alphabet.len().pow(n) % alphabet.len()];
        let path = format!("/{}{}{}{}", piece(0), piece(1), piece(2), piece(3));
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        if mode.apply(path.as_bytes(), &mut once) == Outcome::Changed
            && !path.contains("%%")
            && !path.contains("%2%")
        {
            assert_eq!(mode.apply(&once, &mut twice), Outcome::Unchanged, "{path}");
        }
    }
}

#[test]
fn a_refused_path_is_shown_as_far_as_it_was_settled() {
    let mode = Normalization { escaped_slashes: EscapedSlashes::Reject, ..BASE };
    let mut out = Vec::new();
    assert_eq!(mode.apply(b"/a%2Fb/../c", &mut out), Outcome::Rejected);
    assert_eq!(out, b"/a/b/../c");
    let mode = Normalization { fragment: Fragment::Reject, ..BASE };
    assert_eq!(mode.apply(b"/a#b", &mut out), Outcome::Rejected);
    assert_eq!(out, b"/a#b");
}
