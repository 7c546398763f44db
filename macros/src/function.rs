//! The function that the attribute stands at.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, LitStr, Result, ReturnType, Signature, Token, Type, Visibility};

use crate::options::{Format, Options};
use crate::parameters;

/// A function or method, of which the body stays tokens.
pub(crate) struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    body: TokenStream,
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
        Ok(Self {
            attributes,
            visibility,
            signature,
            body: input.parse()?,
        })
    }
}

impl Function {
    pub(crate) fn unchanged(&self) -> TokenStream {
        self.with_body(&self.body)
    }

    fn with_body(&self, body: &TokenStream) -> TokenStream {
        let Self {
            attributes,
            visibility,
            signature,
            ..
        } = self;
        quote!(#(#attributes)* #visibility #signature #body)
    }

    /// Returns the function with a span around its body.
    pub(crate) fn instrumented(&self, options: &Options) -> Result<TokenStream> {
        if let Some(token) = self.signature.constness {
            let message = "a `const fn` cannot record a span: remove `const` or `#[instrument]`";
            return Err(Error::new(token.span, message));
        }
        let span = self.span(options)?;
        let record = record_result(options);
        let body = match (self.signature.asyncness.is_some(), record.is_empty()) {
            (true, _) => self.async_body(&span, &record),
            (false, true) => {
                let body = &self.body;
                quote!({
                    let __otlp_collector_entered = #span.entered();
                    #body
                })
            }
            (false, false) => self.body_with_result(&span, &record),
        };
        Ok(self.with_body(&body))
    }

    /// Returns the expression that starts the span.
    fn span(&self, options: &Options) -> Result<TokenStream> {
        let own_name = || LitStr::new(&unraw(&self.signature.ident), self.signature.ident.span());
        let name = options.name.clone().unwrap_or_else(own_name);
        let kind = options.kind.iter().map(|kind| quote!(kind: #kind,));
        let parent = options.parent.iter().map(|parent| quote!(parent: #parent,));
        let parameters = parameters::attributes(&self.signature, options)?;
        let fields = &options.fields;
        Ok(quote!(
            ::otlp_collector::span!(#name, #(#kind)* #(#parent)* #parameters #fields)
        ))
    }

    fn async_body(&self, span: &TokenStream, record: &TokenStream) -> TokenStream {
        let body = &self.body;
        let returned = self.returned_type();
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
            quote!(async move { #hint #body })
        } else {
            quote!(async move {
                let __otlp_collector_result = async move { #hint #body }.await;
                let __otlp_collector_entered = ::otlp_collector::current();
                #record
                __otlp_collector_result
            })
        };
        quote!({
            let __otlp_collector_span = #span;
            ::otlp_collector::Instrument::instrument(#work, __otlp_collector_span).await
        })
    }

    fn body_with_result(&self, span: &TokenStream, record: &TokenStream) -> TokenStream {
        let body = &self.body;
        let returned = self.returned_type().map(|returned| quote!(-> #returned));
        quote!({
            let __otlp_collector_entered = #span.entered();
            let __otlp_collector_result = ::otlp_collector::__call_once(move || #returned #body);
            #record
            __otlp_collector_result
        })
    }

    /// Returns the type that the function returns, unless it cannot be written within the body.
    fn returned_type(&self) -> Option<Type> {
        match &self.signature.output {
            ReturnType::Default => Some(syn::parse_quote!(())),
            ReturnType::Type(_, returned) => {
                let is_opaque = contains_impl(returned.to_token_stream());
                (!is_opaque).then(|| (**returned).clone())
            }
        }
    }
}

/// Returns statements that record the result, if an option asks for it.
fn record_result(options: &Options) -> TokenStream {
    let error = options.err.map(|format| {
        let record = match format {
            Format::Display => quote!(record_error),
            Format::Debug => quote!(record_error_debug),
        };
        quote! {
            __otlp_collector_entered
                .#record(__otlp_collector_error)
                .set_status(::otlp_collector::span::StatusRef::Error(""));
        }
    });
    let value = options.ret.map(|format| {
        let text = match format {
            Format::Display => LitStr::new("{}", Span::call_site()),
            Format::Debug => LitStr::new("{:?}", Span::call_site()),
        };
        quote! {
            __otlp_collector_entered.set_attribute_display(
                ::otlp_collector::key!("return"),
                &::core::format_args!(#text, __otlp_collector_value),
            );
        }
    });
    match (error, value) {
        (None, None) => TokenStream::new(),
        (None, Some(value)) => quote! {
            let __otlp_collector_value = &__otlp_collector_result;
            #value
        },
        (Some(error), value) => quote! {
            match &__otlp_collector_result {
                #[allow(unused_variables)]
                ::core::result::Result::Ok(__otlp_collector_value) => { #value }
                ::core::result::Result::Err(__otlp_collector_error) => { #error }
            }
        },
    }
}

fn contains_impl(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        proc_macro2::TokenTree::Ident(ident) => ident == "impl",
        proc_macro2::TokenTree::Group(group) => contains_impl(group.stream()),
        _ => false,
    })
}

fn unraw(ident: &syn::Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_string)
}
