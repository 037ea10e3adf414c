/** By the codes of Node's and OpenSSL's errors: what to look at, in the words of `netctl cluster init`. */
const byCode: Readonly<Record<string, string>> = {
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: "it refuses this host's certificate, --cert, or wants one",
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: "it does not know the authority of this host's certificate, --cert",
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: "it wants a certificate of this host: --cert and --key",
  ERR_SSL_WRONG_VERSION_NUMBER: "no TLS is spoken there; is it http://?",
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: "--key is not the key of --cert",
  ERR_OSSL_PEM_NO_START_LINE: "--cert or --key is no PEM file",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate is of no authority in --ca",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is of no authority in --ca",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is of no authority in --ca",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is of no authority in --ca",
};

/** What has happened on the way to a member, in one line. */
export function transportWords(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : "";
  const known = byCode[code];
  if (known !== undefined) return known;
  if (cause.message.includes("before secure TLS connection was established"))
    return "no TLS is spoken there; is it http://?";
  // OpenSSL says it with the file and line of its own source: ids:error:NUMBER:library:function:reason:file:line.
  const reason = "reason" in cause && typeof cause.reason === "string" ? cause.reason : undefined;
  return reason ?? cause.message.trim();
}

/** What helps against an answer of etcd's; empty where nothing is known. */
export function answerHint(message: string): string {
  if (message.includes("user name is empty")) return "; etcd has users here: give --user and --password-file";
  if (message.includes("permission denied"))
    return "; the user needs a role with readwrite on /netctl/v1/ and what is below it";
  return "";
}
