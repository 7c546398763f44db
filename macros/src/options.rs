//! The options of the attribute.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, LitStr, Result, Token, parenthesized};

const KNOWN: &str = "known are name, kind, parent, skip(..), skip_all, fields(..), err, err(Debug), ret, ret(Display)";

/// Options of one function.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<Expr>,
    pub(crate) kind: Option<Ident>,
    pub(crate) parent: Option<Expr>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) skip_all: bool,
    pub(crate) fields: TokenStream,
    pub(crate) err: Option<Format>,
    pub(crate) ret: Option<Format>,
}

/// Trait by which a value is formatted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Debug,
    Display,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let is_name = input.peek(LitStr);
            let option = if is_name {
                Ident::new("name", input.span())
            } else {
                input.parse()?
            };
            if seen.contains(&option.to_string()) {
                let message = format!("the option `{option}` occurs twice: remove one");
                return Err(Error::new(option.span(), message));
            }
            seen.push(option.to_string());
            if is_name {
                options.name = Some(input.parse()?);
            } else {
                options.parse_value(&option, input)?;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        if options.skip_all && !options.skip.is_empty() {
            let message = "`skip_all` skips all parameters: remove `skip`";
            return Err(Error::new(options.skip[0].span(), message));
        }
        Ok(options)
    }
}

impl Options {
    fn parse_value(&mut self, option: &Ident, input: ParseStream<'_>) -> Result<()> {
        match option.to_string().as_str() {
            "name" => self.name = Some(assigned(input)?),
            "kind" => self.kind = Some(kind(input)?),
            "parent" => self.parent = Some(assigned(input)?),
            "skip" => {
                let content;
                parenthesized!(content in input);
                let skipped =
                    Punctuated::<SkippedParameter, Token![,]>::parse_terminated(&content)?;
                self.skip = skipped.into_iter().map(|parameter| parameter.0).collect();
            }
            "skip_all" => self.skip_all = true,
            "fields" => {
                let content;
                parenthesized!(content in input);
                self.fields = content.parse()?;
            }
            "err" => self.err = Some(format(input, Format::Display)?),
            "ret" => self.ret = Some(format(input, Format::Debug)?),
            "level" | "target" => {
                let message = format!("spans have no {option}: remove the option `{option}`");
                return Err(Error::new(option.span(), message));
            }
            other => {
                let message = format!("there is no option `{other}`: {KNOWN}");
                return Err(Error::new(option.span(), message));
            }
        }
        Ok(())
    }

    /// Returns the names of the fields that have no dot.
    pub(crate) fn field_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut starts = true;
        let mut tokens = self.fields.clone().into_iter().peekable();
        while let Some(token) = tokens.next() {
            match &token {
                TokenTree::Punct(punct) if punct.as_char() == ',' => starts = true,
                TokenTree::Punct(punct) if matches!(punct.as_char(), '%' | '?') => {}
                TokenTree::Ident(name) if starts => {
                    let is_first_part = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '.');
                    if !is_first_part {
                        names.push(name.to_string());
                    }
                    starts = false;
                }
                _ => starts = false,
            }
        }
        names
    }
}

fn assigned<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// A name in `skip`, which may be `self`.
struct SkippedParameter(Ident);

impl Parse for SkippedParameter {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Token![self]) {
            let token: Token![self] = input.parse()?;
            return Ok(Self(Ident::new("self", token.span)));
        }
        input.parse().map(Self)
    }
}

/// Returns the variant of `SpanKind` by its name, as a text or as it is.
fn kind(input: ParseStream<'_>) -> Result<Ident> {
    input.parse::<Token![=]>()?;
    let (given, span): (String, Span) = if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        (text.value(), text.span())
    } else {
        let ident: Ident = input.parse()?;
        (ident.to_string(), ident.span())
    };
    for kind in ["Internal", "Server", "Client", "Producer", "Consumer"] {
        if given.eq_ignore_ascii_case(kind) {
            return Ok(Ident::new(kind, span));
        }
    }
    let message = format!(
        "`{given}` is not a kind of span: use \"internal\", \"server\", \"client\", \"producer\" or \
         \"consumer\""
    );
    Err(Error::new(span, message))
}

/// Returns the trait in parentheses, if there is one.
fn format(input: ParseStream<'_>, default: Format) -> Result<Format> {
    if !input.peek(syn::token::Paren) {
        return Ok(default);
    }
    let content;
    parenthesized!(content in input);
    let name: Ident = content.parse()?;
    match name.to_string().as_str() {
        "Debug" => Ok(Format::Debug),
        "Display" => Ok(Format::Display),
        other => {
            let message = format!("`{other}` does not format values: write Debug or Display");
            Err(Error::new_spanned(name.to_token_stream(), message))
        }
    }
}
