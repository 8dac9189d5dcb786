//! Keys and tokens made with OpenSSL 3 and Python's hmac, so that nothing of ours judges itself.

/// The shared secret.
pub(crate) const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

pub(crate) const EC_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGbyoJtSoCZz+YXhK\n\
R8e5wY+L/8m8zLncaPGppVxVJZChRANCAAQILT/VNQVfp6oUpNwwkhTM+gAOiFdk\n\
xs6XSDiZvrhHkqdTorCk3a2G1Onobms6ViT6KP4G2WYRHJfvZw1q1zT4\n\
-----END PRIVATE KEY-----\n";

pub(crate) const EC_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAECC0/1TUFX6eqFKTcMJIUzPoADohX\n\
ZMbOl0g4mb64R5KnU6KwpN2thtTp6G5rOlYk+ij+BtlmERyX72cNatc0+A==\n\
-----END PUBLIC KEY-----\n";

pub(crate) const ED_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIPWFi2IjPE+udtFRQhuqOZZGb8Xrgvr+hyUo4Hg0qJTQ\n\
-----END PRIVATE KEY-----\n";

pub(crate) const ED_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAhSxoPbbRnwRrWLvDfo8CU+OiCD/BRVIhcNSN6CjXr3A=\n\
-----END PUBLIC KEY-----\n";

pub(crate) const RSA_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5HSf2EslDqKd6ShMHYqP\n\
08BfMANIfPM/cqr5Z5sO0qUPJcQvDqKeYDltojeVEAtb0owEjr1l9fhNUpdgTh7A\n\
et6swHiaWXNRfBqOBqmOT/VmooHiaNSG6UUnW0/n+4aTZf0Hd7zsHTkARbbhRmkX\n\
aqkngqvW2JEVSf4DToWOTRkhinjSHJfprd44tHn9ChVYNPWQ9W6H/CElEmGxoput\n\
jQPaqVYyqT6X8BLzqzwLmyNE+BqFceZypwJbw8os5FhLGEXCiqR7xUmGwrGtRgFC\n\
DzT7tCsCenIuQOHnjMSrm+GgssrwH+Xjmubpcn0eVci1qWU67Gog1hq/YAqCRxka\n\
JwIDAQAB\n\
-----END PUBLIC KEY-----\n";

pub(crate) const RSA_1024_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQConvSZ0jApGs4uWw+tcukT7duB\n\
umcW8DyefgQNKqoDxSNfLDAhqrDIFAXe9Bql6cRRR1HC5FNQrfiVPWpa7JLkDnIi\n\
3NyQ4AKMmEft86+ZsNS1yhpkYkvQI18WLkenfy7rESHUxoXPgjJaZvzfKuuL2dqj\n\
NNUgClXOfPGuvq7pDwIDAQAB\n\
-----END PUBLIC KEY-----\n";

/// Good until 2100 for session s1, user u1, role spectator.
pub(crate) const HS_TOKEN: &str = "\
eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImhzIn0.eyJzZXNzaW9uX2lkIjoiczEiLCJ1c2VyX2lkIjoidTEiLCJl\
eHAiOjQxMDI0NDQ4MDAsInJvbGUiOiJzcGVjdGF0b3IifQ.7UhRKqvnXJBLjvyZFbpaRHmFAXKaPE66xOZORPceFus";

pub(crate) const ES_TOKEN: &str = "\
eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImVzIn0.eyJzZXNzaW9uX2lkIjoiczEiLCJ1c2VyX2lkIjoidTEiLCJl\
eHAiOjQxMDI0NDQ4MDAsInJvbGUiOiJzcGVjdGF0b3IifQ.Ws53FtSioqR6mlCr08S87c8GgPxBvOL6S5KUgZsrX53RVcTI2L78n\
i-VQ16822GW1FdMY3ni21x61sgK9TfYag";

pub(crate) const ED_TOKEN: &str = "\
eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImVkIn0.eyJzZXNzaW9uX2lkIjoiczEiLCJ1c2VyX2lkIjoidTEiLCJl\
eHAiOjQxMDI0NDQ4MDAsInJvbGUiOiJzcGVjdGF0b3IifQ.cQF_0rpGWLhk935GfGTqhhVqOZbPX1VgWCCJ7zlmUzuI_TdbIbDEf\
V6zMd1zSdU1m7TAgYDC3aouEgeDCM5vDQ";

pub(crate) const RS_TOKEN: &str = "\
eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzIn0.eyJzZXNzaW9uX2lkIjoiczEiLCJ1c2VyX2lkIjoidTEiLCJl\
eHAiOjQxMDI0NDQ4MDAsInJvbGUiOiJzcGVjdGF0b3IifQ.eZB9jh04AJl8EBsrWq6sPAsioorWm8pLG5jYbSPqbHaksiRFt-c1k\
CjaN0pIzF_WbhnAcEDiEi5Bg54li2cI5wXJAqJuxzeaZfBwUm5csjrGTcY4PJzwHSWHmf09O18azA422dYKUEpc-48O3G3N2RbzP\
T7hpCa-NrYLPZhjgvI5p3tfcPADEGJOGePJQfvx1n0khDLuO4z8EmnzjNx13qKsuL2WJRJWRNAEq0fYYRJaEqFlLXqfB4yjHFbzu\
olgZLwLoU9DGTfWPYjyFHBbeEnW98mKmJKzf1ovvKlFyczMLDhLfbePTYEND-DrMi03GVkw2OZlrAnulANMLPWjFA";

/// The three public keys, and one for encryption, which is not for us.
pub(crate) const JWK_SET: &str = r#"{
 "keys": [
  {
   "kty": "EC",
   "crv": "P-256",
   "kid": "es",
   "use": "sig",
   "alg": "ES256",
   "x": "CC0_1TUFX6eqFKTcMJIUzPoADohXZMbOl0g4mb64R5I",
   "y": "p1OisKTdrYbU6ehuazpWJPoo_gbZZhEcl-9nDWrXNPg"
  },
  {
   "kty": "OKP",
   "crv": "Ed25519",
   "kid": "ed",
   "x": "hSxoPbbRnwRrWLvDfo8CU-OiCD_BRVIhcNSN6CjXr3A"
  },
  {
   "kty": "RSA",
   "kid": "rs",
   "n": "5HSf2EslDqKd6ShMHYqP08BfMANIfPM_cqr5Z5sO0qUPJcQvDqKeYDltojeVEAtb0owEjr1l9fhNUpdgTh7Aet6swHiaWXNRfBqOBqmOT_VmooHiaNSG6UUnW0_n-4aTZf0Hd7zsHTkARbbhRmkXaqkngqvW2JEVSf4DToWOTRkhinjSHJfprd44tHn9ChVYNPWQ9W6H_CElEmGxoputjQPaqVYyqT6X8BLzqzwLmyNE-BqFceZypwJbw8os5FhLGEXCiqR7xUmGwrGtRgFCDzT7tCsCenIuQOHnjMSrm-GgssrwH-Xjmubpcn0eVci1qWU67Gog1hq_YAqCRxkaJw",
   "e": "AQAB",
   "use": "sig"
  },
  {
   "kty": "RSA",
   "kid": "enc",
   "n": "5HSf2EslDqKd6ShMHYqP08BfMANIfPM_cqr5Z5sO0qUPJcQvDqKeYDltojeVEAtb0owEjr1l9fhNUpdgTh7Aet6swHiaWXNRfBqOBqmOT_VmooHiaNSG6UUnW0_n-4aTZf0Hd7zsHTkARbbhRmkXaqkngqvW2JEVSf4DToWOTRkhinjSHJfprd44tHn9ChVYNPWQ9W6H_CElEmGxoputjQPaqVYyqT6X8BLzqzwLmyNE-BqFceZypwJbw8os5FhLGEXCiqR7xUmGwrGtRgFCDzT7tCsCenIuQOHnjMSrm-GgssrwH-Xjmubpcn0eVci1qWU67Gog1hq_YAqCRxkaJw",
   "e": "AQAB",
   "use": "enc"
  }
 ]
}"#;

/// The modulus of [`RSA_1024_PUBLIC`].
pub(crate) const RSA_1024_MODULUS: &str = "qJ70mdIwKRrOLlsPrXLpE-3bgbpnFvA8nn4EDSqqA8UjXywwIaqwyBQF3vQapenEUUdRwuRTUK34lT1qWuyS5A5yItzckOACjJhH7fOvmbDUtcoaZGJL0CNfFi5Hp38u6xEh1MaFz4IyWmb83yrri9naozTVIApVznzxrr6u6Q8";
