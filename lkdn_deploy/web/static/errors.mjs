/** What went wrong: `code` tells programs, `message` people. lkdn.d.mts lists the codes. */
export class LkdnError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "LkdnError";
    this.code = code;
  }
}
