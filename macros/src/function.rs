//! The function that the attribute stands at.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::token::Brace;
use syn::{Attribute, Error, LitStr, Result, ReturnType, Signature, Token, Visibility, braced};

use crate::options::{Format, Options};
use crate::parameters;
use crate::returned;

/// A function or method.
pub(crate) struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    brace: Brace,
    /// Attributes at the start of the body.
    inner_attributes: Vec<Attribute>,
    /// The rest of the body, which stays tokens. They get no block of their own, of which `unused_braces`
    /// would warn.
    statements: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature: Signature = input.parse().map_err(|error| {
            let message = "`#[instrument]` belongs to a function: put it before `fn`";
            Error::new(error.span(), message)
        })?;
        if input.peek(Token![;]) {
            let message = "this method has no body: put `#[instrument]` where it is implemented";
            return Err(input.error(message));
        }
        let content;
        Ok(Self {
            attributes,
            visibility,
            signature,
            brace: braced!(content in input),
            inner_attributes: content.call(Attribute::parse_inner)?,
            statements: content.parse()?,
        })
    }
}

impl Function {
    /// Returns the function with a span around its body.
    pub(crate) fn instrumented(&self, options: &Options) -> Result<TokenStream> {
        if let Some(token) = self.signature.constness {
            let message = "a `const fn` cannot record a span: remove `const` or `#[instrument]`";
            return Err(Error::new(token.span, message));
        }
        let span = self.span(options)?;
        let record = record_result(options, &self.signature.output);
        let statements = self.statements.clone();
        if self.signature.asyncness.is_some() {
            let returned = returned::of(&self.signature.output);
            return Ok(self.with_statements(&async_body(&span, returned, &record, &statements)));
        }
        let body_of_future = |body: TokenStream| {
            let returned = returned::of_future(&self.signature.output);
            async_body(&span, returned, &record, &body)
        };
        if let Some(statements) = with_future(statements, body_of_future) {
            return Ok(self.with_statements(&statements));
        }
        Ok(self.with_statements(&self.body(&span, &record)))
    }

    fn with_statements(&self, statements: &TokenStream) -> TokenStream {
        let Self {
            attributes,
            visibility,
            signature,
            inner_attributes,
            ..
        } = self;
        let mut body = Group::new(Delimiter::Brace, quote!(#(#inner_attributes)* #statements));
        body.set_span(self.brace.span.join());
        quote!(#(#attributes)* #visibility #signature #body)
    }

    /// Returns the expression that starts the span.
    fn span(&self, options: &Options) -> Result<TokenStream> {
        let own_name = || {
            let name = LitStr::new(&unraw(&self.signature.ident), self.signature.ident.span());
            quote!(#name)
        };
        let name = options
            .name
            .as_ref()
            .map_or_else(own_name, |name| quote!(#name));
        let kind = options.kind.iter().map(|kind| quote!(kind: #kind,));
        let parent = options.parent.iter().map(|parent| quote!(parent: #parent,));
        let parameters = parameters::attributes(&self.signature, options)?;
        let fields = &options.fields;
        Ok(quote!(
            ::otlp_collector::span!(#name, #(#kind)* #(#parent)* #parameters #fields)
        ))
    }

    /// Returns the statements of a function that returns no future.
    fn body(&self, span: &TokenStream, record: &TokenStream) -> TokenStream {
        let statements = &self.statements;
        if record.is_empty() || returned::is_never(&self.signature.output) {
            return quote! {
                let __otlp_collector_entered = #span.entered();
                #statements
            };
        }
        let returned = returned::of(&self.signature.output).map(|returned| quote!(-> #returned));
        quote! {
            let __otlp_collector_entered = #span.entered();
            let __otlp_collector_result = ::otlp_collector::__call_once(move || #returned {
                #statements
            });
            #record
            __otlp_collector_result
        }
    }
}

/// Returns the statements of a future, in a span that starts with its first poll.
fn async_body(
    span: &TokenStream,
    returned: Option<syn::Type>,
    record: &TokenStream,
    statements: &TokenStream,
) -> TokenStream {
    // Gives `?` in the body a type to convert errors to.
    let hint = returned.map(|returned| {
        quote! {
            #[allow(
                unknown_lints, unreachable_code, clippy::diverging_sub_expression,
                clippy::empty_loop, clippy::let_unit_value, clippy::let_with_type_underscore,
                clippy::needless_return, clippy::unreachable
            )]
            if false {
                let __otlp_collector_returned: #returned = loop {};
                return __otlp_collector_returned;
            }
        }
    });
    let work = if record.is_empty() {
        quote!(async move { #hint #statements })
    } else {
        quote!(async move {
            let __otlp_collector_result = async move { #hint #statements }.await;
            let __otlp_collector_entered = ::otlp_collector::current();
            #record
            __otlp_collector_result
        })
    };
    quote! {
        let __otlp_collector_span = #span;
        ::otlp_collector::Instrument::instrument(#work, __otlp_collector_span).await
    }
}

/// Changes the body of the future that statements end with: `async move { … }`, also in `Box::pin(…)` as
/// `#[async_trait]` makes it.
fn with_future(
    statements: TokenStream,
    change: impl FnOnce(TokenStream) -> TokenStream,
) -> Option<TokenStream> {
    let mut tokens: Vec<TokenTree> = statements.into_iter().collect();
    let Some(TokenTree::Group(last)) = tokens.pop() else {
        return None;
    };
    let changed = match (tokens.as_slice(), last.delimiter()) {
        ([.., TokenTree::Ident(first), TokenTree::Ident(second)], Delimiter::Brace)
            if first == "async" && second == "move" =>
        {
            change(last.stream())
        }
        ([.., TokenTree::Ident(function)], Delimiter::Parenthesis) if function == "pin" => {
            with_future(last.stream(), change)?
        }
        _ => return None,
    };
    let mut group = Group::new(last.delimiter(), changed);
    group.set_span(last.span());
    tokens.push(group.into());
    Some(tokens.into_iter().collect())
}

/// Returns statements that record the result, if an option asks for it. Errors of the compiler in them
/// point to the returned type.
fn record_result(options: &Options, output: &ReturnType) -> TokenStream {
    let at = Span::call_site().located_at(match output {
        ReturnType::Default => Span::call_site(),
        ReturnType::Type(_, returned) => returned.span(),
    });
    let error = options.err.map(|format| {
        let record = match format {
            Format::Display => quote_spanned!(at=> record_error),
            Format::Debug => quote_spanned!(at=> record_error_debug),
        };
        quote_spanned! {at=>
            __otlp_collector_entered
                .#record(__otlp_collector_error)
                .set_status(::otlp_collector::span::StatusRef::Error(""));
        }
    });
    let value = options.ret.map(|format| {
        let text = match format {
            Format::Display => LitStr::new("{}", at),
            Format::Debug => LitStr::new("{:?}", at),
        };
        quote_spanned! {at=>
            __otlp_collector_entered.set_attribute_display(
                ::otlp_collector::key!("return"),
                &::core::format_args!(#text, __otlp_collector_value),
            );
        }
    });
    match (error, value) {
        (None, None) => TokenStream::new(),
        (None, Some(value)) => quote_spanned! {at=>
            let __otlp_collector_value = &__otlp_collector_result;
            #value
        },
        (Some(error), value) => {
            let ok = value
                .is_some()
                .then(|| quote_spanned!(at=> __otlp_collector_value));
            let ok = ok.unwrap_or_else(|| quote_spanned!(at=> _));
            quote_spanned! {at=>
                match &__otlp_collector_result {
                    ::core::result::Result::Ok(#ok) => { #value }
                    ::core::result::Result::Err(__otlp_collector_error) => { #error }
                }
            }
        }
    }
}

fn unraw(ident: &syn::Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_string)
}
