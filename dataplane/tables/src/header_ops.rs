//! Additions to and removals from the headers of a request or response.

use crate::string_match::StringMatch;
use crate::strings::Str;
use crate::template::Template;

/// What one level of configuration (weighted cluster, route, virtual host, route configuration) does to headers.
///
/// Apply the removals first, then decide every addition against the headers as they were before this level's
/// additions, then apply overwrites, then appends: the order of Envoy's `HeaderParser::evaluateHeaders`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HeaderOps {
    /// Names to remove, lower case.
    pub remove: Box<[Str]>,
    /// Values to add.
    pub add: Box<[HeaderAdd]>,
}

/// One value to add. Source: `envoy.config.core.v3.HeaderValueOption`.
#[derive(Clone, PartialEq, Debug)]
pub struct HeaderAdd {
    /// Name, lower case.
    pub name: Str,
    /// Value.
    pub value: Template,
    /// What happens when the header is there already.
    pub action: HeaderAppend,
    /// Whether to add the header although its value is empty.
    pub keep_empty: bool,
}

/// Source: `HeaderValueOption.HeaderAppendAction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderAppend {
    /// Another field of the same name is added.
    AppendIfExistsOrAdd,
    /// Added only when there is none.
    AddIfAbsent,
    /// All fields of the name are replaced by this one.
    OverwriteIfExistsOrAdd,
    /// Replaced only when there is one.
    OverwriteIfExists,
}

/// One operation of a list that is applied in its order.
/// Source: `envoy.config.common.mutation_rules.v3.HeaderMutation`.
#[derive(Clone, Debug)]
pub enum HeaderMutation {
    /// All fields of this name (lower case) go.
    Remove(Str),
    /// All fields whose name (lower case) matches go.
    RemoveMatching(StringMatch),
    /// This value is added.
    Add(HeaderAdd),
}

/// Operations of `envoy.filters.http.header_mutation` at one level.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    /// On the request.
    pub request: Box<[HeaderMutation]>,
    /// On the response.
    pub response: Box<[HeaderMutation]>,
}

/// Source: `envoy.extensions.filters.http.header_mutation.v3.HeaderMutation`.
#[derive(Clone, Debug, Default)]
pub struct MutationFilter {
    /// Operations on everything.
    pub mutations: HeaderMutations,
    /// Whether the operations of the most specific level come last.
    pub most_specific_wins: bool,
}

impl HeaderOps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// Header operations of one level for both directions.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HeaderEdits {
    /// On the request, before it is sent upstream.
    pub request: HeaderOps,
    /// On the response, before it is sent downstream.
    pub response: HeaderOps,
}

impl HeaderEdits {
    /// Whether there is nothing to do in either direction.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}
