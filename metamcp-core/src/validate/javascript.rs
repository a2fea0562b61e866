//! Function bodies: parsed as what they will be, the body of one async function of an ES module.
//!
//! It is a syntax check with good positions, not a sandbox: what a body may reach is the runtime's to limit.

use std::collections::BTreeMap;

use oxc_allocator::Allocator;
use oxc_ast::AstKind;
use oxc_ast::ast::{ExportDefaultDeclarationKind, Program, Statement};
use oxc_diagnostics::OxcDiagnostic;
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::SemanticBuilder;
use oxc_span::{GetSpan as _, SourceType};

use super::errors::Problem;
use super::imports;
use super::problems::{Path, Problems};

/// Longest body, in bytes.
const BODY_BYTES: usize = 256 * 1024;
/// Most tokens of a body, counted so that no trick hides one: what bounds the parser's stack.
const BODY_TOKENS: usize = 128 * 1024;
/// Deepest nesting of brackets: the parser's time grows with its square where it has to guess at an arrow function.
const BODY_NESTING: usize = 128;
/// Stack for one level of nesting, and a token opens at most one. Measured with oxc 0.146: up to 3.4 KiB
/// without optimization (`(a={b:` repeated), 1.8 KiB with it.
const STACK_BYTES_PER_TOKEN: usize = 6 * 1024;
/// Stack that a check needs for everything else.
pub(super) const STACK_BYTES: usize = 4 * 1024 * 1024;
/// Problems reported for one body: after a broken bracket the rest is noise.
const PROBLEMS_PER_BODY: usize = 20;
/// What follows the body: on its own line, since the body may end with a `//` comment.
const TAIL: &str = "\n}";

/// What a body binds, beside the globals of the platform.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signature {
    /// Tools and prompts.
    Parameters,
    /// Resources.
    Resource,
}

impl Signature {
    fn head(self) -> &'static str {
        match self {
            Self::Parameters => "export default async function (parameters, env, ctx) {\n",
            Self::Resource => "export default async function (uri, variables, env, ctx) {\n",
        }
    }
}

/// The stack that is deep enough to check `body`. It is only reserved: the system provides what is touched.
pub(super) fn stack_bytes(body: &str) -> usize {
    // A short body is not worth counting: it has no more tokens than bytes.
    let tokens = if body.len() <= 4096 { body.len() } else { tokens(body) };
    STACK_BYTES + tokens.min(BODY_TOKENS) * STACK_BYTES_PER_TOKEN
}

/// At least as many as there are tokens: punctuation, and beginnings of words.
fn tokens(body: &str) -> usize {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let pairs = body.bytes().zip([b' '].into_iter().chain(body.bytes()));
    pairs.filter(|&(byte, before)| !(is_space(byte) || is_word(byte) && is_word(before))).count()
}

/// How deep brackets nest, strings aside. A regular expression may lead it astray, which costs time, never the
/// stack: that is reserved by [`tokens`].
fn nesting(body: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = body.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'\'' | b'"' => skip_string(byte, &mut bytes),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Goes behind the end of a string, which is its quote or the end of the line.
fn skip_string(quote: u8, bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'\n' => return,
            end if end == quote => return,
            _ => {}
        }
    }
}

/// Checks many bodies, reusing its memory from one to the next.
pub(super) struct BodyChecker<'a> {
    dependencies: &'a BTreeMap<String, String>,
    allocator: Allocator,
    source: String,
}

impl<'a> BodyChecker<'a> {
    /// A checker of bodies that may import these packages.
    pub(super) fn new(dependencies: &'a BTreeMap<String, String>) -> Self {
        Self { dependencies, allocator: Allocator::default(), source: String::new() }
    }

    /// Parses the body at `path` and notes what is wrong with it.
    pub(super) fn check(&mut self, path: &Path, body: &str, signature: Signature, problems: &mut Problems) {
        if body.trim().is_empty() {
            return problems.add(path, "is empty; write the body of a JavaScript function that returns its result");
        }
        if body.len() > BODY_BYTES {
            let message = format!("is {} bytes long; at most {BODY_BYTES} are allowed", body.len());
            return problems.add(path, message);
        }
        if body.len() > BODY_TOKENS && tokens(body) > BODY_TOKENS {
            return problems.add(path, format!("has more than {BODY_TOKENS} tokens; split it into several tools"));
        }
        if nesting(body) > BODY_NESTING {
            return problems
                .add(path, format!("nests brackets deeper than {BODY_NESTING} levels; use variables or functions"));
        }
        self.allocator.reset();
        self.source.clear();
        self.source.extend([signature.head(), body, TAIL]);
        let head = signature.head().len();
        let mut faults = find_faults(&self.allocator, &self.source, head, SourceType::mjs(), self.dependencies);
        let is_import = faults.iter().any(|fault| fault.message.contains("cannot import or export"));
        if !faults.is_empty()
            && !is_import
            && find_faults(&self.allocator, &self.source, head, SourceType::ts(), self.dependencies).is_empty()
        {
            faults.truncate(1);
            faults[0].message = "the body is JavaScript, not TypeScript; remove the types".into();
        }
        faults.sort_by_key(|fault| fault.offset);
        faults.dedup();
        for fault in faults.into_iter().take(PROBLEMS_PER_BODY) {
            let (line, column) = position(body, fault.offset);
            let pointer = path.as_str().to_owned();
            problems.push(Problem { pointer, message: fault.message, line: Some(line), column: Some(column) });
        }
    }
}

/// Something wrong at a byte offset of the body.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    offset: usize,
    message: String,
}

fn find_faults(
    allocator: &Allocator,
    source: &str,
    head: usize,
    kind: SourceType,
    dependencies: &BTreeMap<String, String>,
) -> Vec<Fault> {
    let options = ParseOptions { parse_regular_expression: true, ..ParseOptions::default() };
    let parsed = Parser::new(allocator, source, kind).with_options(options).parse();
    let body_end = source.len() - TAIL.len();
    let mut faults: Vec<_> = parsed.diagnostics.errors().map(|error| fault(error, head, body_end)).collect();
    if !faults.is_empty() || parsed.panicked {
        return faults;
    }
    if let Some(end) = end_of_function_if_early(&parsed.program, source.len()) {
        let message = "closes the function here and goes on behind it; remove the unmatched `}`".to_owned();
        return vec![Fault { offset: end.saturating_sub(head + 1), message }];
    }
    let program = allocator.alloc(parsed.program);
    let checked = SemanticBuilder::new_compiler().build(program);
    faults.extend(checked.diagnostics.errors().map(|error| fault(error, head, body_end)));
    let free = checked.semantic.scoping().root_unresolved_references();
    if ["eval", "Function"].iter().any(|&name| free.keys().any(|free| *free == name)) {
        faults.extend(code_from_strings(program, head));
    }
    if source.contains("import") {
        let undeclared = imports::undeclared(program, dependencies).into_iter();
        faults.extend(undeclared.map(|(offset, message)| Fault { offset: offset.saturating_sub(head), message }));
    }
    faults
}

/// Where the function ends, if that is not the end of the text: then the body closed it by itself.
fn end_of_function_if_early(program: &Program<'_>, end: usize) -> Option<usize> {
    let Some(Statement::ExportDefaultDeclaration(export)) = program.body.first() else { return Some(0) };
    let ExportDefaultDeclarationKind::FunctionDeclaration(function) = &export.declaration else { return Some(0) };
    let function_end = function.span.end as usize;
    (program.body.len() != 1 || function_end != end).then_some(function_end)
}

/// Calls of `eval` and `Function`, which the runtime refuses: better said now than at the first call.
fn code_from_strings<'a>(program: &'a Program<'a>, head: usize) -> Vec<Fault> {
    let semantic = SemanticBuilder::new().with_build_nodes(true).build(program).semantic;
    let scoping = semantic.scoping();
    let references = scoping.root_unresolved_references_ids().flatten();
    let calls = references.filter_map(|id| {
        let node = scoping.get_reference(id).node_id();
        let AstKind::IdentifierReference(identifier) = semantic.nodes().kind(node) else { return None };
        let is_callee = match semantic.nodes().parent_kind(node) {
            AstKind::CallExpression(call) => call.callee.span() == identifier.span,
            AstKind::NewExpression(call) => call.callee.span() == identifier.span,
            _ => false,
        };
        let name = identifier.name.as_str();
        (is_callee && matches!(name, "eval" | "Function")).then(|| Fault {
            offset: (identifier.span.start as usize).saturating_sub(head),
            message: format!("`{name}(…)` does not work: Workers run no code made from strings; write the code itself"),
        })
    });
    calls.collect()
}

/// A diagnostic at its place in the body.
fn fault(error: &OxcDiagnostic, head: usize, body_end: usize) -> Fault {
    let is_second_declaration = error.message.ends_with("has already been declared");
    let mut offsets = error.labels.iter().map(|label| label.offset() as usize).filter(|&offset| offset >= head);
    // The first place of a name may be in the head, as a parameter; the second one is what is wrong.
    let offset = if is_second_declaration { offsets.next_back() } else { offsets.next() }.unwrap_or(head);
    Fault { offset: offset.min(body_end) - head, message: reworded(error, offset > body_end) }
}

/// The parser's message, put for somebody who sees only the body.
fn reworded(error: &OxcDiagnostic, is_behind_body: bool) -> String {
    if is_behind_body && error.message == "Unexpected token" {
        return "the body ends too early, or has one closing bracket too many".to_owned();
    }
    if error.message.contains("only be used at the top level of a module") {
        return "a body stands inside a function, so it cannot import or export; use `await import(…)`".to_owned();
    }
    match &error.help {
        Some(help) => format!("{} ({help})", error.message),
        None => error.message.to_string(),
    }
}

/// Line and column, both from 1, as the runtime and editors count: columns in UTF-16 units.
fn position(body: &str, offset: usize) -> (u32, u32) {
    let before = body.get(..offset).unwrap_or(body);
    let is_end = |c: char| matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}');
    let pairs = before.matches("\r\n").count();
    let line = 1 + before.matches(is_end).count() - pairs;
    let start = before.rfind(is_end).map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let column = 1 + before[start..].encode_utf16().count();
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}
