//! The one public error type.
//!
//! Callers branch on [`Error::kind`]; people and agents read the message, which names the thing that
//! failed and, where there is one, the next step. No message ever holds a secret value.

use std::error::Error as StdError;
use std::fmt;

use crate::{NameError, ValidationErrors};

/// `Result` with Meta-MCP's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is: what a caller can decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A definition or an edit has problems; [`Error::validation`] lists all of them.
    InvalidDefinition,
    /// The named thing does not exist.
    NotFound,
    /// The name is taken by something that is not ours to replace.
    AlreadyExists,
    /// Somebody else changed or holds it: read again, then retry.
    Conflict,
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// The credentials are good but do not allow this.
    PermissionDenied,
    /// Too many requests; retry later.
    RateLimited,
    /// The other side cannot answer now; retrying may help.
    Unavailable,
    /// This backend or platform cannot do it at all.
    Unsupported,
    /// A build ran and failed.
    BuildFailed,
    /// Configuration or the machine's set-up is wrong.
    ConfigInvalid,
    /// A wait reached its limit.
    TimedOut,
    /// An input or output is over a stated limit.
    LimitExceeded,
    /// A deployed server does not answer as its definition says.
    VerificationFailed,
    /// A broken invariant or an answer nobody foresaw.
    Unexpected,
}

impl ErrorKind {
    /// The kind as a stable `snake_case` word, for logs and machine-readable answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidDefinition => "invalid_definition",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::BuildFailed => "build_failed",
            Self::ConfigInvalid => "config_invalid",
            Self::TimedOut => "timed_out",
            Self::LimitExceeded => "limit_exceeded",
            Self::VerificationFailed => "verification_failed",
            Self::Unexpected => "unexpected",
        }
    }
}

/// What went wrong, where, and what to do next.
///
/// ```
/// use metamcp_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::NotFound, "server \"weather\" does not exist")
///     .with_operation("deploy")
///     .with_help("list the servers to see their names");
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.operation(), Some("deploy"));
/// assert_eq!(
///     error.to_string(),
///     "deploy: server \"weather\" does not exist; list the servers to see their names"
/// );
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    operation: Option<&'static str>,
    help: Option<String>,
    retryable: bool,
    validation: Option<ValidationErrors>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` is lower case, without a full stop, and names the thing.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable);
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            help: None,
            retryable,
            validation: None,
            source: None,
        }))
    }

    /// Names the operation that failed; the first name given (the innermost) stays.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds the next step for the reader.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether the same call may succeed later (by default: rate limited and unavailable).
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, where one is named: the innermost.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// What went wrong, without operation, help and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The next step, where one is known.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Every problem of the definition, if this is [`ErrorKind::InvalidDefinition`].
    pub fn validation(&self) -> Option<&ValidationErrors> {
        self.0.validation.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        if let Some(help) = &self.0.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // `Display` already shows the direct cause, so the chain goes on behind it.
        self.0.source.as_deref().and_then(StdError::source)
    }
}

/// [`ErrorKind::NotFound`]: nothing has such a name.
///
/// ```
/// use metamcp_core::{ErrorKind, ServerKey};
///
/// fn key(text: &str) -> metamcp_core::Result<ServerKey> {
///     Ok(text.parse()?)
/// }
/// assert_eq!(key("Dice!").unwrap_err().kind(), ErrorKind::NotFound);
/// ```
impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        let NameError { problem, help } = error;
        Self::new(ErrorKind::NotFound, problem).with_help(help)
    }
}

impl From<ValidationErrors> for Error {
    fn from(errors: ValidationErrors) -> Self {
        let mut error = Self::new(ErrorKind::InvalidDefinition, errors.to_string());
        error.0.validation = Some(errors);
        error
    }
}
