import { CString, dlopen, FFIType, type Pointer } from 'bun:ffi';
import { Failure } from '../../kit/errors.ts';

/** nftables in this process (libnftables(3)): an element takes tens of microseconds, where the program nft takes ten milliseconds. */
export interface Nftables {
  /** Runs commands as one transaction and returns what they print; Failure `nftables` when it is refused, and then nothing of it holds. */
  run(commands: string): string;
}

export function openNftables(): Nftables {
  const { symbols } = dlopen('libnftables.so.1', {
    nft_ctx_new: { args: [FFIType.u32], returns: FFIType.ptr },
    nft_ctx_buffer_output: { args: [FFIType.ptr], returns: FFIType.i32 },
    nft_ctx_buffer_error: { args: [FFIType.ptr], returns: FFIType.i32 },
    nft_ctx_get_output_buffer: { args: [FFIType.ptr], returns: FFIType.ptr },
    nft_ctx_get_error_buffer: { args: [FFIType.ptr], returns: FFIType.ptr },
    nft_run_cmd_from_buffer: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  });
  const context = symbols.nft_ctx_new(0);
  if (context === null || symbols.nft_ctx_buffer_output(context) !== 0 || symbols.nft_ctx_buffer_error(context) !== 0) {
    throw new Failure('nftables', 'libnftables gives no context');
  }
  const textOf = (buffer: ReturnType<typeof symbols.nft_ctx_get_output_buffer>): string => (buffer === null ? '' : new CString(buffer as Pointer).toString());
  return {
    run(commands) {
      const status = symbols.nft_run_cmd_from_buffer(context, Buffer.from(`${commands}\0`));
      const output = textOf(symbols.nft_ctx_get_output_buffer(context));
      const error = textOf(symbols.nft_ctx_get_error_buffer(context));
      if (status !== 0) throw new Failure('nftables', `nftables refuses: ${error.trim().slice(0, 2000)}`);
      return output;
    },
  };
}
