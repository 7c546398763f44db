//! `#[instrument]` of the crate `otlp-collector`, which documents it.

mod function;
mod options;
mod parameters;

use proc_macro::TokenStream;
use syn::parse_macro_input;

use self::function::Function;
use self::options::Options;

/// Records each call of a function as a span: see `otlp_collector::instrument`.
#[proc_macro_attribute]
pub fn instrument(options: TokenStream, function: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as Options);
    let function = parse_macro_input!(function as Function);
    match function.instrumented(&options) {
        Ok(tokens) => tokens.into(),
        Err(error) => {
            // The function itself, so that the calls of it are no errors as well.
            let mut tokens = error.into_compile_error();
            tokens.extend(function.unchanged());
            tokens.into()
        }
    }
}
