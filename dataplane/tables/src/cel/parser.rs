//! From words to a tree, by precedence climbing.

use super::CelError;
use super::lexer::{Token, tokens};
use super::value::Value;
use crate::limits::CEL_DEPTH_MAX;
use crate::regex_re2::Regex;
use crate::strings::Str;

/// A node of an expression.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Literal(Value<'static>),
    List(Box<[Node]>),
    /// A name followed by members.
    Attribute(Box<[Str]>),
    /// `has(…)`: the attribute exists.
    Has(Box<[Str]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<(Node, Node)>),
    Choice(Box<(Node, Node, Node)>),
    Call(Function, Box<[Node]>),
    Matches(Box<Node>, Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    String,
    Int,
    Double,
    Duration,
    StartsWith,
    EndsWith,
    Contains,
}

pub(super) fn parse(text: &str) -> Result<Node, CelError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.len(), depth: 0 };
    let node = parser.choice()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => parser.fail("nothing was expected any more"),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
    depth: u32,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn fail<T>(&self, text: impl Into<String>) -> Result<T, CelError> {
        Err(CelError { at: self.at(), text: text.into() })
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), CelError> {
        if self.take(sign) { Ok(()) } else { self.fail(format!("`{sign}` was expected")) }
    }

    /// `condition ? yes : no`, or anything below.
    fn choice(&mut self) -> Result<Node, CelError> {
        self.depth += 1;
        if self.depth > CEL_DEPTH_MAX {
            return self.fail(format!("nested deeper than {CEL_DEPTH_MAX}"));
        }
        let mut node = self.binary(0)?;
        if self.take("?") {
            let yes = self.choice()?;
            self.expect(":")?;
            let no = self.choice()?;
            node = Node::Choice(Box::new((node, yes, no)));
        }
        self.depth -= 1;
        Ok(node)
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        use Operator::*;
        Some(match self.peek()? {
            Token::Sign("||") => (Or, 1),
            Token::Sign("&&") => (And, 2),
            Token::Sign("==") => (Equal, 3),
            Token::Sign("!=") => (NotEqual, 3),
            Token::Sign("<") => (Less, 3),
            Token::Sign("<=") => (LessOrEqual, 3),
            Token::Sign(">") => (Greater, 3),
            Token::Sign(">=") => (GreaterOrEqual, 3),
            Token::Name(name) if name == "in" => (In, 3),
            Token::Sign("+") => (Add, 4),
            Token::Sign("-") => (Subtract, 4),
            Token::Sign("*") => (Multiply, 5),
            Token::Sign("/") => (Divide, 5),
            Token::Sign("%") => (Remainder, 5),
            _ => return None,
        })
    }

    /// Operators that bind tighter than `above`; all are left-associative.
    fn binary(&mut self, above: u8) -> Result<Node, CelError> {
        let mut left = self.unary()?;
        let mut chained = 0;
        while let Some((operator, precedence)) = self.operator().filter(|(_, binds)| *binds > above) {
            chained += 1;
            if chained > CEL_DEPTH_MAX {
                return self.fail(format!("more than {CEL_DEPTH_MAX} operators in a row"));
            }
            self.next += 1;
            let right = self.binary(precedence)?;
            left = Node::Binary(operator, Box::new((left, right)));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, CelError> {
        let mut signs = Vec::new();
        while let Some(Token::Sign(sign @ ("!" | "-"))) = self.peek() {
            signs.push(*sign);
            self.next += 1;
            if signs.len() > CEL_DEPTH_MAX as usize {
                return self.fail(format!("more than {CEL_DEPTH_MAX} signs in a row"));
            }
        }
        let node = self.member()?;
        Ok(signs.into_iter().rev().fold(node, |node, sign| match sign {
            "!" => Node::Not(Box::new(node)),
            _ => Node::Negate(Box::new(node)),
        }))
    }

    /// A primary expression with its members and method calls.
    fn member(&mut self) -> Result<Node, CelError> {
        let mut node = self.primary()?;
        let mut members = 0;
        loop {
            members += 1;
            if members > CEL_DEPTH_MAX {
                return self.fail(format!("more than {CEL_DEPTH_MAX} members in a row"));
            }
            if self.take(".") {
                let Some(Token::Name(name)) = self.peek().cloned() else {
                    return self.fail("a name was expected");
                };
                self.next += 1;
                node = if self.take("(") { self.method(node, &name)? } else { self.select(node, &name)? };
            } else if self.take("[") {
                let Some(Token::String(key)) = self.peek().cloned() else {
                    return self.fail("only a string may stand in an index");
                };
                self.next += 1;
                self.expect("]")?;
                node = self.select(node, &key)?;
            } else {
                return Ok(node);
            }
        }
    }

    fn select(&self, node: Node, key: &str) -> Result<Node, CelError> {
        match node {
            Node::Attribute(path) => {
                Ok(Node::Attribute(path.iter().cloned().chain([Str::new(key)]).collect()))
            }
            _ => self.fail("only an attribute has members"),
        }
    }

    fn primary(&mut self) -> Result<Node, CelError> {
        let Some(token) = self.peek().cloned() else { return self.fail("the expression ends here") };
        if let Token::Sign(sign) = token {
            if self.take("(") {
                let node = self.choice()?;
                self.expect(")")?;
                return Ok(node);
            }
            if self.take("[") {
                return Ok(Node::List(self.arguments("]")?));
            }
            return self.fail(format!("`{sign}` cannot stand here"));
        }
        self.next += 1;
        Ok(match token {
            Token::String(text) => Node::Literal(Value::String(text.into())),
            Token::Int(value) => Node::Literal(Value::Int(value)),
            Token::Double(value) => Node::Literal(Value::Double(value)),
            Token::Name(name) if self.take("(") => self.function(&name)?,
            Token::Name(name) => match name.as_str() {
                "true" => Node::Literal(Value::Bool(true)),
                "false" => Node::Literal(Value::Bool(false)),
                "null" => Node::Literal(Value::Null),
                "in" => return self.fail("`in` cannot stand here"),
                name => Node::Attribute(Box::new([Str::new(name)])),
            },
            Token::Sign(_) => return self.fail("a value was expected"),
        })
    }

    /// Arguments up to the closing bracket.
    fn arguments(&mut self, close: &str) -> Result<Box<[Node]>, CelError> {
        let mut nodes = Vec::new();
        while !self.take(close) {
            if !nodes.is_empty() {
                self.expect(",")?;
                if self.take(close) {
                    break;
                }
            }
            nodes.push(self.choice()?);
        }
        Ok(nodes.into())
    }

    fn function(&mut self, name: &str) -> Result<Node, CelError> {
        let at = self.at();
        let arguments = self.arguments(")")?;
        let fail = |text: String| Err(CelError { at, text });
        let function = match name {
            "has" => {
                return match <[Node; 1]>::try_from(arguments.into_vec()) {
                    Ok([Node::Attribute(path)]) if path.len() > 1 => Ok(Node::Has(path)),
                    _ => fail("has() takes one attribute with a member".to_owned()),
                };
            }
            "matches" => {
                return match <[Node; 2]>::try_from(arguments.into_vec()) {
                    Ok([subject, pattern]) => matches_node(subject, pattern, at),
                    Err(_) => fail("matches() takes two arguments".to_owned()),
                };
            }
            "size" => Function::Size,
            "string" => Function::String,
            "int" | "uint" => Function::Int,
            "double" => Function::Double,
            "duration" => Function::Duration,
            other => return fail(format!("the function {other}() is not supported")),
        };
        if arguments.len() == 1 {
            Ok(Node::Call(function, arguments))
        } else {
            fail(format!("{name}() takes one argument"))
        }
    }

    fn method(&mut self, subject: Node, name: &str) -> Result<Node, CelError> {
        let at = self.at();
        let arguments = self.arguments(")")?;
        let fail = |text: String| Err(CelError { at, text });
        let mut all = vec![subject];
        all.extend(arguments);
        let function = match name {
            "matches" => {
                return match <[Node; 2]>::try_from(all) {
                    Ok([subject, pattern]) => matches_node(subject, pattern, at),
                    Err(_) => fail("matches() takes one argument".to_owned()),
                };
            }
            "size" if all.len() == 1 => Function::Size,
            "startsWith" if all.len() == 2 => Function::StartsWith,
            "endsWith" if all.len() == 2 => Function::EndsWith,
            "contains" if all.len() == 2 => Function::Contains,
            "size" | "startsWith" | "endsWith" | "contains" => {
                return fail(format!("{name}() has another number of arguments"));
            }
            other => return fail(format!("the function {other}() is not supported")),
        };
        Ok(Node::Call(function, all.into()))
    }
}

/// A pattern must be known now: compiling one per request could cost any time.
fn matches_node(subject: Node, pattern: Node, at: usize) -> Result<Node, CelError> {
    let Node::Literal(Value::String(pattern)) = pattern else {
        return Err(CelError { at, text: "matches() takes a literal pattern".to_owned() });
    };
    match Regex::search(Str::new(&pattern)) {
        Ok(regex) => Ok(Node::Matches(Box::new(subject), regex)),
        Err(error) => Err(CelError { at, text: format!("{pattern:?}: {error}") }),
    }
}
