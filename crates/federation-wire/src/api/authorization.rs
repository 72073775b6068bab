//! The credentials of a client's request: `Authorization: Bearer <secret>`, or `x-api-key: <secret>`.

use super::token::ClientSecret;

/// The header of the second spelling.
pub const API_KEY_HEADER: &str = "x-api-key";
/// The one scheme of the first (RFC 6750). Its case does not matter (RFC 9110).
const SCHEME: &[u8] = b"bearer";

/// What a request presents is no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFault {
    /// A header stands there twice.
    #[error("a header is repeated")]
    Repeated,
    /// Another scheme than `Bearer`.
    #[error("the scheme is not Bearer")]
    Scheme,
    /// What stands there is not the text of a secret.
    #[error("it is not a secret")]
    Malformed,
    /// Both headers, with different secrets.
    #[error("the two headers differ")]
    Different,
}

/// The secret that a request presents, from the values of `Authorization` and of [`API_KEY_HEADER`]; none if it has
/// neither.
///
/// # Errors
/// [`CredentialFault`]. To the caller all of them are one answer.
pub fn presented<'a>(
    authorization: impl IntoIterator<Item = &'a [u8]>,
    api_key: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<ClientSecret>, CredentialFault> {
    let bearer = single(authorization)?.map(bearer).transpose()?;
    let api_key = single(api_key)?.map(secret).transpose()?;
    match (bearer, api_key) {
        (Some(one), Some(other)) if one.hash() != other.hash() => Err(CredentialFault::Different),
        (one, other) => Ok(one.or(other)),
    }
}

fn single<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, CredentialFault> {
    let mut values = values.into_iter();
    let first = values.next();
    if values.next().is_some() { Err(CredentialFault::Repeated) } else { Ok(first) }
}

fn bearer(value: &[u8]) -> Result<ClientSecret, CredentialFault> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len()).ok_or(CredentialFault::Scheme)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || !rest.starts_with(b" ") {
        return Err(CredentialFault::Scheme);
    }
    secret(rest.trim_ascii())
}

fn secret(text: &[u8]) -> Result<ClientSecret, CredentialFault> {
    ClientSecret::parse(text).map_err(|_| CredentialFault::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "fed1_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    const TWO: &str = "fed1_AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";

    /// The secret's text, or the fault.
    fn read(authorization: &[&str], api_key: &[&str]) -> Result<Option<String>, CredentialFault> {
        let bytes =
            |values: &[&str]| values.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
        let (authorization, api_key) = (bytes(authorization), bytes(api_key));
        let found = presented(authorization.iter().map(Vec::as_slice), api_key.iter().map(Vec::as_slice))?;
        Ok(found.map(|secret| secret.to_text().to_string()))
    }

    #[test]
    fn both_spellings_are_equal_and_must_agree() {
        let bearer = |secret: &str| format!("Bearer {secret}");
        assert_eq!(read(&[], &[]), Ok(None));
        for text in [bearer(ONE), format!("bearer {ONE}"), format!("BEARER   {ONE}")] {
            assert_eq!(read(&[&text], &[]), Ok(Some(ONE.to_owned())), "{text}");
        }
        assert_eq!(read(&[], &[ONE]), Ok(Some(ONE.to_owned())));
        assert_eq!(read(&[&bearer(ONE)], &[ONE]), Ok(Some(ONE.to_owned())));
        assert_eq!(read(&[&bearer(ONE)], &[TWO]), Err(CredentialFault::Different));
        assert_eq!(read(&[&bearer(ONE)], &["x"]), Err(CredentialFault::Malformed));
        assert_eq!(read(&[&bearer(ONE), &bearer(ONE)], &[]), Err(CredentialFault::Repeated));
        assert_eq!(read(&[], &[ONE, ONE]), Err(CredentialFault::Repeated));
    }

    #[test]
    fn what_is_no_credential_is_told_from_none() {
        for text in ["", "Bearer", "Basic YTpi", &format!("Bearer{ONE}"), &format!("Bearer\t{ONE}"), ONE] {
            assert_eq!(read(&[text], &[]), Err(CredentialFault::Scheme), "{text}");
        }
        for text in ["Bearer ", "Bearer x", &format!("Bearer {ONE}x"), &format!("Bearer {ONE} {ONE}")] {
            assert_eq!(read(&[text], &[]), Err(CredentialFault::Malformed), "{text}");
        }
        assert_eq!(read(&[], &[""]), Err(CredentialFault::Malformed));
    }

    proptest! {
        /// Any bytes are read without a panic; what is taken for a secret is the text of one.
        #[test]
        fn any_bytes(
            authorization in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..3),
            api_key in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..3),
        ) {
            let found = presented(authorization.iter().map(Vec::as_slice), api_key.iter().map(Vec::as_slice));
            if let Ok(Some(secret)) = found {
                let text = secret.to_text();
                let ends = |value: &Vec<u8>| value.trim_ascii().ends_with(text.as_bytes());
                prop_assert!(authorization.iter().chain(&api_key).any(ends));
            }
        }

        /// A secret in the middle of anything else is found only where it stands alone.
        #[test]
        fn a_secret_with_something_around_it(
            seed in any::<[u8; 32]>(),
            before in "[ -~]{0,12}",
            after in "[!-~]{0,3}",
        ) {
            use rand::SeedableRng;
            let secret = ClientSecret::generate(&mut rand::rngs::StdRng::from_seed(seed));
            let text = secret.to_text();
            let header = format!("{before}{}{after}", *text);
            let is_bearer = after.is_empty()
                && before.len() > 6
                && before[..6].eq_ignore_ascii_case("bearer")
                && before[6..].bytes().all(|byte| byte == b' ');
            let found = presented([header.as_bytes()], []).ok().flatten();
            prop_assert_eq!(found.is_some(), is_bearer);
            prop_assert!(presented([], [text.as_bytes()]).is_ok_and(|found| found.is_some()));
        }
    }
}
