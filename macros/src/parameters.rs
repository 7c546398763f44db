//! The parameters of a function, as attributes of its span.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, Ident, Pat, PathArguments, Result, Signature, Type};

use crate::options::Options;

/// Types whose values are attributes as they are.
const VALUES: [&str; 12] = [
    "bool", "i8", "i16", "i32", "i64", "isize", "u8", "u16", "u32", "u64", "usize", "f32",
];

/// Returns the attributes of all parameters that are not skipped, in the syntax of `span!`.
pub(crate) fn attributes(signature: &Signature, options: &Options) -> Result<TokenStream> {
    let mut names = Vec::new();
    let mut has_receiver = false;
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(_) => has_receiver = true,
            FnArg::Typed(parameter) => collect(&parameter.pat, Form::of(&parameter.ty), &mut names),
        }
    }
    for skipped in &options.skip {
        let is_known = names.iter().any(|(name, _)| name == skipped);
        if !(is_known || has_receiver && skipped == "self") {
            let message = format!(
                "`{skipped}` is not a parameter of `{}`: correct the name, or remove it from `skip`",
                signature.ident
            );
            return Err(Error::new(skipped.span(), message));
        }
    }
    if options.skip_all {
        return Ok(TokenStream::new());
    }
    let replaced = options.field_names();
    let attributes = names
        .iter()
        .filter(|(name, _)| !options.skip.contains(name) && !replaced.contains(&name.to_string()));
    Ok(attributes
        .map(|(name, form)| form.attribute(name))
        .collect())
}

/// How a parameter becomes a value.
#[derive(Clone, Copy)]
enum Form {
    Value,
    /// A reference to a value.
    Behind,
    /// Text that is owned.
    Borrowed,
    Debug,
}

impl Form {
    fn of(parameter: &Type) -> Self {
        match parameter {
            // A type that a macro was given.
            Type::Group(group) => Self::of(&group.elem),
            Type::Paren(paren) => Self::of(&paren.elem),
            Type::Path(_) if is_one_of(parameter, &VALUES) || is_one_of(parameter, &["f64"]) => {
                Self::Value
            }
            Type::Path(_) if is_one_of(parameter, &["String"]) => Self::Borrowed,
            Type::Reference(reference) => match Self::of(&reference.elem) {
                Self::Value => Self::Behind,
                // `&&str` and `&&String` are seldom.
                Self::Borrowed => Self::Value,
                _ if is_one_of(&reference.elem, &["str"]) => Self::Value,
                _ => Self::Debug,
            },
            _ => Self::Debug,
        }
    }

    fn attribute(self, name: &Ident) -> TokenStream {
        match self {
            Self::Value => quote!(#name = #name,),
            Self::Behind => quote!(#name = *#name,),
            Self::Borrowed => quote!(#name = &#name,),
            Self::Debug => quote!(#name = ?#name,),
        }
    }
}

/// Returns whether a type is written as one of these names, alone or as the end of a path.
fn is_one_of(parameter: &Type, names: &[&str]) -> bool {
    let Type::Path(path) = parameter else {
        return false;
    };
    let last = path.path.segments.last();
    last.is_some_and(|last| {
        matches!(last.arguments, PathArguments::None) && names.iter().any(|name| last.ident == name)
    })
}

/// Collects the names that a pattern binds. The parts of a pattern have types that are not written, so
/// they are formatted by `Debug`.
fn collect(pattern: &Pat, form: Form, names: &mut Vec<(Ident, Form)>) {
    let mut all = |patterns: &mut dyn Iterator<Item = &Pat>| {
        for pattern in patterns {
            collect(pattern, Form::Debug, names);
        }
    };
    match pattern {
        // An underscore in front marks unused parameters.
        Pat::Ident(ident) if !ident.ident.to_string().starts_with('_') => {
            names.push((ident.ident.clone(), form));
        }
        Pat::Reference(reference) => all(&mut std::iter::once(&*reference.pat)),
        Pat::Tuple(tuple) => all(&mut tuple.elems.iter()),
        Pat::TupleStruct(tuple) => all(&mut tuple.elems.iter()),
        Pat::Struct(fields) => all(&mut fields.fields.iter().map(|field| &*field.pat)),
        Pat::Slice(slice) => all(&mut slice.elems.iter()),
        Pat::Type(typed) => all(&mut std::iter::once(&*typed.pat)),
        _ => {}
    }
}
