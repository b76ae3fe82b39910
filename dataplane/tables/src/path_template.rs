//! Templates of paths. Source: `envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig`.
//!
//! `*` stands for one segment that is not empty, `**` for any number of them, `{name}` and `{name=…}` for what their
//! pattern matches. Everything else stands for itself.

use crate::regex_re2::Regex;
use crate::strings::Str;

/// What may stand in a segment besides letters and digits. Source: `pchar` of RFC 3986 section 3.3.
const PUNCTUATION: &str = "._~%!$&'()*+,;=:@-";

/// Variables in one template. Source: Envoy.
const VARIABLES_MAX: usize = 5;

/// Longest name of a variable. Source: Envoy.
const VARIABLE_NAME_MAX: usize = 16;

/// A compiled template.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    source: Str,
    pattern: Regex,
}

impl PathTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(source: Str) -> Result<PathTemplate, String> {
        let pattern = Regex::whole(Str::new(&pattern(&source)?)).map_err(|error| error.to_string())?;
        Ok(PathTemplate { source, pattern })
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a path, without query and fragment, matches.
    pub fn matches(&self, path: &str) -> bool {
        self.pattern.matches(path.as_bytes())
    }
}

/// The regular expression that says the same.
fn pattern(template: &str) -> Result<String, String> {
    let Some(mut rest) = template.strip_prefix('/') else {
        return Err(format!("template {template:?} does not begin with \"/\""));
    };
    let mut made = Made { regex: "/".to_string(), ..Made::default() };
    while !rest.is_empty() {
        rest = if let Some(after) = rest.strip_prefix("**") {
            made.glob(true)?;
            after
        } else if let Some(after) = rest.strip_prefix('*') {
            made.glob(false)?;
            after
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((variable, after)) = after.split_once('}') else {
                return Err(format!("\"{{{after}\" is not closed"));
            };
            made.variable(variable)?;
            after
        } else {
            let (literal, after) = segment(rest);
            made.literal(literal)?;
            after
        };
        if let Some(after) = rest.strip_prefix('/') {
            made.regex.push('/');
            rest = after;
        } else if !rest.is_empty() {
            // What follows a wildcard directly ends the path.
            made.literal(rest)?;
            break;
        }
    }
    Ok(made.regex)
}

/// The part before the next slash, and the rest from there.
fn segment(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

#[derive(Default)]
struct Made<'a> {
    regex: String,
    variables: Vec<&'a str>,
    /// `**` was there: no other wildcard may follow.
    text_glob: bool,
}

impl<'a> Made<'a> {
    fn glob(&mut self, any_depth: bool) -> Result<(), String> {
        if self.text_glob {
            return Err("a wildcard follows \"**\"".to_string());
        }
        self.text_glob = any_depth;
        let (slash, times) = if any_depth { ("/", '*') } else { ("", '+') };
        self.regex.push_str(&format!("[a-zA-Z0-9{slash}{PUNCTUATION}]{times}"));
        Ok(())
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || PUNCTUATION.contains(c);
        if text.is_empty() {
            return Err("a segment is empty".to_string());
        }
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!("{c:?} in {text:?} may not stand in a template"));
        }
        for c in text.chars() {
            if "$()*+.".contains(c) {
                self.regex.push('\\');
            }
            self.regex.push(c);
        }
        Ok(())
    }

    /// `name` or `name=pattern`.
    fn variable(&mut self, text: &'a str) -> Result<(), String> {
        let (name, mut rest) = match text.split_once('=') {
            None => (text, "*"),
            Some((name, pattern)) => (name, pattern),
        };
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("{name:?} is no name of a variable"));
        }
        if name.len() > VARIABLE_NAME_MAX {
            return Err(format!("{name:?} is longer than {VARIABLE_NAME_MAX}"));
        }
        if self.variables.contains(&name) {
            return Err(format!("{name:?} is there twice"));
        }
        if self.variables.len() == VARIABLES_MAX {
            return Err(format!("there are more than {VARIABLES_MAX} variables"));
        }
        self.variables.push(name);
        self.regex.push_str("(?:");
        loop {
            rest = if let Some(after) = rest.strip_prefix("**") {
                self.glob(true)?;
                after
            } else if let Some(after) = rest.strip_prefix('*') {
                self.glob(false)?;
                after
            } else {
                let (literal, after) = segment(rest);
                self.literal(literal)?;
                after
            };
            if rest.is_empty() {
                break;
            }
            let Some(after) = rest.strip_prefix('/') else {
                return Err(format!("{rest:?} in {text:?} does not begin a segment"));
            };
            self.regex.push('/');
            rest = after;
        }
        self.regex.push(')');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, path: &str) -> bool {
        PathTemplate::new(Str::new(template)).unwrap().matches(path)
    }

    #[test]
    fn wildcards_stand_for_segments() {
        for (template, yes, no) in [
            ("/a/*", "/a/b", "/a/b/c"),
            ("/a/*", "/a/b.c", "/a/"),
            ("/a/**", "/a/b/c", "/ab"),
            ("/a/**", "/a/", "/a"),
            ("/a/*/c", "/a/b/c", "/a//c"),
            ("/**/c", "/a/b/c", "/a/b/d"),
            ("/a/*.html", "/a/b.html", "/a/bhtml"),
            ("/a/{x}/c", "/a/b/c", "/a/b/b/c"),
            ("/{x=a/*}/c", "/a/b/c", "/b/b/c"),
            ("/a/", "/a/", "/a"),
            ("/", "/", "/a"),
            ("/a/*", "/a/b%20c=*", "/a/b\"c"),
        ] {
            assert!(matches(template, yes), "{template} {yes}");
            assert!(!matches(template, no), "{template} {no}");
        }
    }

    #[test]
    fn a_template_that_means_nothing_is_refused_in_words() {
        for (template, why) in [
            ("a", "begin with"),
            ("/a//b", "empty"),
            ("/**/*", "follows"),
            ("/{x", "closed"),
            ("/{1}", "no name"),
            ("/{x}/{x}", "twice"),
            ("/{x=}", "empty"),
            ("/a b", "may not stand"),
            ("/a?b", "may not stand"),
            ("/a{x}", "may not stand"),
            ("/{a}/{b}/{c}/{d}/{e}/{f}", "more than 5"),
            ("/{abcdefghijklmnopq}", "longer than"),
        ] {
            let error = PathTemplate::new(Str::new(template)).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
