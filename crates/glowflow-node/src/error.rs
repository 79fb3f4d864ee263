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
