//! The form in which structs of options are declared.

/// Declares a struct of options. Each field stands once, with its docs and its default, and `Default`
/// and `fields` follow from that.
macro_rules! options {
    (
        $(#[$of_type:meta])*
        pub struct $name:ident {
            $($(#[$of_field:meta])* pub $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$of_type])*
        pub struct $name {
            $($(#[$of_field])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $default,)*
                }
            }
        }

        impl $name {
            /// Returns the name and value of each field, in the order of declaration.
            pub(super) fn fields(&self) -> Vec<(&'static str, &dyn std::fmt::Debug)> {
                vec![$((stringify!($field), &self.$field),)*]
            }
        }
    };
}

pub(super) use options;
