//! `#[instrument]` of the crate `otlp-collector`, which documents it.

mod function;
mod options;
mod parameters;
mod returned;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;

use self::function::Function;
use self::options::Options;

/// Records each call of a function as a span: see `otlp_collector::instrument`.
#[proc_macro_attribute]
pub fn instrument(options: TokenStream, function: TokenStream) -> TokenStream {
    let function = Tokens::from(function);
    let instrumented = instrument_tokens(options, function.clone());
    let tokens = instrumented.unwrap_or_else(|error| {
        // The function itself, so that the calls of it are no errors as well.
        let mut tokens = error.into_compile_error();
        tokens.extend(function);
        tokens
    });
    tokens.into()
}

fn instrument_tokens(options: TokenStream, function: Tokens) -> syn::Result<Tokens> {
    let options: Options = syn::parse(options)?;
    let function: Function = syn::parse2(function)?;
    function.instrumented(&options)
}
