//! Engine errors on their way to `src/error.ts`.

use serde_json::json;

/// The error as JSON in the reason: of all that a napi error holds, only that survives a promise.
pub fn to_napi(error: &glowflow::Error) -> napi::Error {
    napi::Error::from_reason(to_json(error))
}

/// `{ code, message, details }`.
pub fn to_json(error: &glowflow::Error) -> String {
    json!({ "code": error.code(), "message": error.to_string(), "details": error.details() }).to_string()
}

/// A panic's payload as an [`glowflow::Error::Internal`].
pub fn from_panic(panic: &(dyn std::any::Any + Send)) -> glowflow::Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_string());
    glowflow::Error::Internal { message }
}
