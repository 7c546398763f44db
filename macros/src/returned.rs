//! The type that a function returns, as it can be written within its body.

use syn::punctuated::Punctuated;
use syn::{
    GenericArgument, Path, PathArguments, ReturnType, Token, Type, TypeInfer, TypeParamBound,
};

/// Returns the type of the body; none if there is nothing to write.
pub(crate) fn of(output: &ReturnType) -> Option<Type> {
    match output {
        ReturnType::Default => Some(syn::parse_quote!(())),
        ReturnType::Type(_, returned) => inferred(returned),
    }
}

/// Returns the type of the future that is returned, if that type is written.
pub(crate) fn of_future(output: &ReturnType) -> Option<Type> {
    match output {
        ReturnType::Default => None,
        ReturnType::Type(_, returned) => inferred(output_of(returned)?),
    }
}

/// Returns whether the function returns never.
pub(crate) fn is_never(output: &ReturnType) -> bool {
    matches!(output, ReturnType::Type(_, returned) if matches!(**returned, Type::Never(_)))
}

fn inferred(returned: &Type) -> Option<Type> {
    if matches!(returned, Type::Never(_) | Type::ImplTrait(_)) {
        return None;
    }
    let mut returned = returned.clone();
    infer(&mut returned);
    Some(returned)
}

/// Replaces each `impl Trait` by `_`.
fn infer(part: &mut Type) {
    match part {
        Type::ImplTrait(_) => {
            *part = Type::Infer(TypeInfer {
                underscore_token: <Token![_]>::default(),
            });
        }
        Type::Array(array) => infer(&mut array.elem),
        Type::Group(group) => infer(&mut group.elem),
        Type::Paren(paren) => infer(&mut paren.elem),
        Type::Path(path) => infer_arguments(&mut path.path),
        Type::Ptr(pointer) => infer(&mut pointer.elem),
        Type::Reference(reference) => infer(&mut reference.elem),
        Type::Slice(slice) => infer(&mut slice.elem),
        Type::TraitObject(object) => {
            for bound in &mut object.bounds {
                if let TypeParamBound::Trait(bound) = bound {
                    infer_arguments(&mut bound.path);
                }
            }
        }
        Type::Tuple(tuple) => tuple.elems.iter_mut().for_each(infer),
        _ => {}
    }
}

fn infer_arguments(path: &mut Path) {
    for segment in &mut path.segments {
        let PathArguments::AngleBracketed(arguments) = &mut segment.arguments else {
            continue;
        };
        for argument in &mut arguments.args {
            match argument {
                GenericArgument::Type(part) => infer(part),
                GenericArgument::AssocType(part) => infer(&mut part.ty),
                _ => {}
            }
        }
    }
}

/// Returns `T` of `impl Future<Output = T>`, and of the same in `Pin<Box<dyn …>>`.
fn output_of(returned: &Type) -> Option<&Type> {
    match returned {
        Type::ImplTrait(future) => output_in(&future.bounds),
        Type::TraitObject(future) => output_in(&future.bounds),
        Type::Path(path) => arguments(&path.path).find_map(|argument| match argument {
            GenericArgument::Type(inner) => output_of(inner),
            _ => None,
        }),
        _ => None,
    }
}

fn output_in(bounds: &Punctuated<TypeParamBound, Token![+]>) -> Option<&Type> {
    bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => {
            arguments(&bound.path).find_map(|argument| match argument {
                GenericArgument::AssocType(output) if output.ident == "Output" => Some(&output.ty),
                _ => None,
            })
        }
        _ => None,
    })
}

/// Returns the arguments of a path's last part.
fn arguments(path: &Path) -> impl Iterator<Item = &GenericArgument> {
    let last = path.segments.last().map(|segment| &segment.arguments);
    let arguments = match last {
        Some(PathArguments::AngleBracketed(arguments)) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten()
}
