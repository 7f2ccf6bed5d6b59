/** What the head hands on to the local dispatcher of certificates and of how they are proved. */

/** A certificate sealed for the dispatcher, or (null) one that is taken back. */
export interface CertificateOrder {
  /** Its first name, without `*.`. */
  readonly name: string;
  readonly sealed: string | null;
}

/** What to answer at the path of a token (RFC 8555, section 8.3), or (null) no longer; `key` names its place. */
export interface ChallengeOrder {
  readonly key: string;
  readonly challenge: { readonly host: string; readonly token: string; readonly answer: string } | null;
}

/** The head calls these on the local dispatcher, besides `DispatcherCalls`. */
export interface CertificateCalls {
  /** Puts a certificate into the folder, or takes it away. One that does not open or fit is refused there, and an earlier one stays. */
  certificate(order: CertificateOrder): Promise<void>;
  /** All certificates that shall be there besides the operator's own. */
  certificates(order: { readonly names: readonly string[] }): Promise<void>;
  challenge(order: ChallengeOrder): Promise<void>;
}
