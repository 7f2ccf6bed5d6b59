import type { ResourceManager } from '../resources/run.ts';
import type { AppNow } from './template-exchange.ts';

/** An app as the exchange of templates asks for it: always as it is now. */
export function appNow(manager: ResourceManager, key: string): AppNow | null {
  const app = manager.state.apps.get(key);
  if (app === undefined) return null;
  return {
    get desired() {
      return app.desired;
    },
    get hasInstances() {
      return app.instances.size > 0;
    },
    get usedBootNs() {
      return app.usedBootNs;
    },
    setFacts(release, facts): void {
      const { serving } = app;
      // How it is woken may have changed since the database was told.
      if (serving?.order.release === release) app.serving = { ...serving, facts: { ...facts, wakeBy: serving.facts.wakeBy, wakeReason: serving.facts.wakeReason } };
      manager.ports.stateChanged(app.key);
    },
  };
}
